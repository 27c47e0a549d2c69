//! Taking proofs out of grown tables.

use super::tables::{NONE, Tables, X_VALUES_SIZE};
use super::{Pointer, Proof};
use crate::constants::{HASH_SIZE, POS_PROOF_SIZE};
use crate::lanes::*;
use crate::simd::{MAX_LANES, at_level};

/// Entries of table 4 under an entry of table 7.
const FOURTHS: usize = POS_PROOF_SIZE / (2 * X_VALUES_SIZE);

/// Hash of a proof: what its s-bucket's chunk is encoded with.
pub type ProofHash = [u8; HASH_SIZE];

impl Tables {
    /// Whether the s-bucket has a proof.
    #[inline]
    pub fn has_proof(&self, s_bucket: u16) -> bool {
        self.first[usize::from(s_bucket)] != NONE
    }

    /// The proof of an s-bucket: that of the entry of table 7 with the lowest y and, of those, the first position.
    pub fn proof(&self, s_bucket: u16) -> Option<Proof> {
        let first = self.first[usize::from(s_bucket)];
        (first != NONE).then(|| self.proof_of(Pointer(first as u32)))
    }

    /// The proof that an entry of table 7 stands for; its pointer is one that an [`Observer`] was shown by the last build.
    pub fn proof_of(&self, pointer: Pointer) -> Proof {
        let mut pointers = [pointer; FOURTHS];
        for (generation, kept) in self.pointers.iter().rev().enumerate() {
            for i in (0..1 << generation).rev() {
                let parents = kept.parents(pointers[i]);
                [pointers[2 * i], pointers[2 * i + 1]] =
                    parents.map(|bytes| Pointer(u32::from_le_bytes(bytes)));
            }
        }
        let mut proof = [0; POS_PROOF_SIZE];
        for (values, pointer) in proof.as_chunks_mut::<{ 2 * X_VALUES_SIZE }>().0.iter_mut().zip(pointers) {
            let [left, right] = self.x_values.parents(pointer);
            values[..X_VALUES_SIZE].copy_from_slice(&left);
            values[X_VALUES_SIZE..].copy_from_slice(&right);
        }
        proof
    }

    /// The hashes of the proofs of those of the s-buckets that have one, in the same order.
    pub fn proof_hashes<I: Iterator<Item = u16>>(&self, s_buckets: I) -> ProofHashes<'_, I> {
        let (found, hashes) = ([0; MAX_LANES], [[0; HASH_SIZE]; MAX_LANES]);
        ProofHashes { tables: self, s_buckets, found, hashes, count: 0, next: 0 }
    }
}

/// S-buckets with the hashes of their proofs, made a vector of them at a time; see [`Tables::proof_hashes`].
pub struct ProofHashes<'a, I> {
    tables: &'a Tables,
    s_buckets: I,
    found: [u16; MAX_LANES],
    hashes: [ProofHash; MAX_LANES],
    count: usize,
    next: usize,
}

impl<I: Iterator<Item = u16>> ProofHashes<'_, I> {
    fn refill(&mut self) {
        let mut proofs = [[0; POS_PROOF_SIZE]; MAX_LANES];
        (self.count, self.next) = (0, 0);
        for s_bucket in self.s_buckets.by_ref() {
            let Some(proof) = self.tables.proof(s_bucket) else { continue };
            (self.found[self.count], proofs[self.count]) = (s_bucket, proof);
            self.count += 1;
            if self.count == MAX_LANES {
                break;
            }
        }
        at_level!(self.tables.level, hash_160(&proofs, &mut self.hashes));
    }
}

impl<I: Iterator<Item = u16>> Iterator for ProofHashes<'_, I> {
    type Item = (u16, ProofHash);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.count {
            self.refill();
        }
        let at = self.next;
        (at < self.count).then(|| {
            self.next += 1;
            (self.found[at], self.hashes[at])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CpuLevel;

    #[test]
    fn hashes_are_those_of_the_proofs() {
        let mut tables = Tables::new(CpuLevel::detect());
        tables.build(&[3; 32]);
        let of_proofs = |s_buckets: std::ops::Range<u16>| -> Vec<_> {
            s_buckets
                .filter_map(|s_bucket| Some((s_bucket, *blake3::hash(&tables.proof(s_bucket)?).as_bytes())))
                .collect()
        };
        assert!(tables.proof_hashes(0..1000).eq(of_proofs(0..1000)));
        let none: Vec<u16> = (0..200).filter(|s_bucket| !tables.has_proof(*s_bucket)).collect();
        assert!(none.len() > 16);
        assert_eq!(tables.proof_hashes(none.into_iter()).count(), 0);
        for end in 0..40 {
            assert!(tables.proof_hashes(0..end).eq(of_proofs(0..end)));
        }
    }
}
