//! Tables against figures of the network's own software, at every CPU level of this machine.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use consensus::CpuLevel;
use consensus::pos::{Tables, is_valid};

/// Seed, s-buckets with a proof, digest over (s-bucket LE, proof, BLAKE3 of the proof) of all of them.
const KNOWN: [(&str, usize, &str); 1] = [(
    "eee53408d80de4f4631acc3a01a50160de974d03e46a90ebb5d6c76273d378c4",
    39756,
    "9d456ce1f9e692b6e57f69c9159744a2252a6e3e7d0fe062169534bc75439104",
)];

#[test]
fn every_proof_of_known_seeds() {
    for level in CpuLevel::available() {
        let mut tables = Tables::new(level);
        for (seed, count, digest) in KNOWN {
            let seed = hex::decode(seed).unwrap().try_into().unwrap();
            tables.build(&seed);
            let mut hasher = blake3::Hasher::new();
            let mut found = 0;
            for s_bucket in 0..=u16::MAX {
                let Some(proof) = tables.proof(s_bucket) else {
                    assert!(!tables.has_proof(s_bucket));
                    continue;
                };
                found += 1;
                hasher.update(&u32::from(s_bucket).to_le_bytes());
                hasher.update(&proof);
                hasher.update(blake3::hash(&proof).as_bytes());
            }
            assert_eq!(found, count, "{level}");
            assert_eq!(hasher.finalize().to_string(), digest, "{level}");
        }
    }
}

#[test]
fn proofs_verify_and_changed_ones_do_not() {
    let seed = *blake3::hash(b"a seed of our own").as_bytes();
    let mut tables = Tables::new(CpuLevel::detect());
    tables.build(&seed);
    let mut checked = 0;
    for s_bucket in (0..=u16::MAX).step_by(997) {
        let Some(proof) = tables.proof(s_bucket) else { continue };
        let index = u32::from(s_bucket);
        assert!(is_valid(&seed, index, &proof));
        assert!(!is_valid(&seed, index + 1, &proof));
        assert!(!is_valid(blake3::hash(&seed).as_bytes(), index, &proof));
        for byte in [0, 3, 80, 159] {
            let mut changed = proof;
            changed[byte] ^= 0x10;
            assert!(!is_valid(&seed, index, &changed));
        }
        checked += 1;
    }
    assert!(checked > 20, "about 62 % of the s-buckets have a proof, checked {checked}");
}
