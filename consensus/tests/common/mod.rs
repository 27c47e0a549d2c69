//! The network's golden vectors, found in `shared/` beside the workspace, and the rules that rebuild their inputs.
//! A bare clone has no such directory; tests then print one line and pass.
#![allow(dead_code, reason = "each test file uses its part")]

use consensus::bls::Scalar;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn shared() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared")
}

/// A file of vectors, none in a bare clone.
pub fn vectors(name: &str) -> Option<Value> {
    let path = shared().join("vectors").join(name);
    let Ok(text) = std::fs::read(&path) else {
        println!("skipped: no vectors at {}", path.display());
        return None;
    };
    Some(serde_json::from_slice(&text).expect("vectors are JSON"))
}

/// The network's KZG parameters, none in a bare clone.
pub fn mainnet_parameters() -> Option<Vec<u8>> {
    let path = shared().join("kzg/eth-public-parameters.bin");
    let parameters = std::fs::read(&path).ok();
    if parameters.is_none() {
        println!("skipped: no KZG parameters at {}", path.display());
    }
    parameters
}

/// The first bytes of the BLAKE3 stream of a label.
pub fn bytes(label: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(label.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Scalars of a label by the named rule, as 32 bytes each.
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

/// Serialised scalars.
pub fn serialised(scalars: &[Scalar]) -> Vec<u8> {
    scalars.iter().flat_map(|scalar| scalar.to_bytes()).collect()
}

/// Compares bytes with a digest entry `{len, blake3, ...}` of the vectors.
pub fn assert_digest(found: &[u8], expected: &Value, what: &str) {
    assert_eq!(found.len() as u64, expected["len"].as_u64().unwrap(), "length of {what}");
    assert_eq!(blake3::hash(found).to_string(), text(&expected["blake3"]), "{what}");
}

/// A JSON string.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}

/// A JSON integer.
pub fn number(value: &Value) -> usize {
    value.as_u64().unwrap_or_else(|| panic!("not a number: {value}")).try_into().unwrap()
}

/// A JSON array.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}"))
}

/// A hexadecimal JSON string of a fixed number of bytes.
pub fn hex_array<const SIZE: usize>(value: &Value) -> [u8; SIZE] {
    let bytes = hex::decode(text(value)).expect("hexadecimal");
    bytes.try_into().unwrap_or_else(|_| panic!("not {SIZE} bytes: {value}"))
}
