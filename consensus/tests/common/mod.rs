//! Inputs that tests name by a label, as the golden vectors do.
#![allow(dead_code, reason = "each test file uses its part")]

use consensus::bls::Scalar;

/// The first bytes of the BLAKE3 stream of a label.
pub fn bytes(label: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(label.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Scalars of a label as 32 bytes each: `scalars31` (31 bytes each) or `scalars254` (32 bytes, two bits cleared).
pub fn chunks(rule: &str, label: &str, count: usize) -> Vec<[u8; 32]> {
    match rule {
        "scalars31" => bytes(label, 31 * count).as_chunks::<31>().0.iter().map(safe_chunk).collect(),
        "scalars254" => bytes(label, 32 * count).as_chunks::<32>().0.iter().map(masked_chunk).collect(),
        _ => panic!("unknown rule {rule}"),
    }
}

/// Scalars of a label by the named rule.
pub fn scalars(rule: &str, label: &str, count: usize) -> Vec<Scalar> {
    chunks(rule, label, count).iter().map(|chunk| Scalar::from_bytes(chunk).unwrap()).collect()
}

fn safe_chunk(bytes: &[u8; 31]) -> [u8; 32] {
    let mut chunk = [0; 32];
    chunk[1..].copy_from_slice(bytes);
    chunk
}

fn masked_chunk(bytes: &[u8; 32]) -> [u8; 32] {
    let mut chunk = *bytes;
    chunk[0] &= 0x3f;
    chunk
}
