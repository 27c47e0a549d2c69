//! Reading vector files without ever panicking: what is missing or malformed fails its case and says where.

use super::error::ConformanceError;
use serde_json::Value;
use std::path::Path;

/// Most bytes that a file of vectors may have.
const VECTOR_FILE_SIZE_MAX: u64 = 256 << 20;

/// Outcome of a check; the text says what differs.
pub type Check<T = ()> = Result<T, String>;

/// The vectors of a file.
pub fn read_vectors(path: &Path) -> Result<Value, ConformanceError> {
    let failed = |error| ConformanceError::Read(path.into(), error);
    if std::fs::metadata(path).map_err(failed)?.len() > VECTOR_FILE_SIZE_MAX {
        return Err(ConformanceError::TooLarge(path.into()));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    serde_json::from_slice(&bytes).map_err(|error| ConformanceError::Json(path.into(), error))
}

/// Member of an object.
pub fn member<'a>(value: &'a Value, key: &str) -> Check<&'a Value> {
    value.get(key).ok_or_else(|| format!("the vector has no member '{key}'"))
}

/// Member that may be absent or null.
pub fn optional<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    value.get(key).filter(|value| !value.is_null())
}

/// String member.
pub fn text<'a>(value: &'a Value, key: &str) -> Check<&'a str> {
    member(value, key)?.as_str().ok_or_else(|| format!("'{key}' is not a string"))
}

/// Array member.
pub fn list<'a>(value: &'a Value, key: &str) -> Check<&'a [Value]> {
    member(value, key)?.as_array().map(Vec::as_slice).ok_or_else(|| format!("'{key}' is not a list"))
}

/// A number, or a number in a decimal string (values that may pass 2^53).
pub fn number_of(value: &Value) -> Check<u64> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number.ok_or_else(|| format!("'{value}' is not a whole number"))
}

/// Number member.
pub fn number(value: &Value, key: &str) -> Check<u64> {
    number_of(member(value, key)?).map_err(|error| format!("{key}: {error}"))
}

/// Number member as an index or length.
pub fn size(value: &Value, key: &str) -> Check<usize> {
    usize::try_from(number(value, key)?).map_err(|_| format!("'{key}' is too large"))
}

/// Number member that fits 16 bits.
pub fn small(value: &Value, key: &str) -> Check<u16> {
    u16::try_from(number(value, key)?).map_err(|_| format!("'{key}' is too large"))
}

/// Boolean member.
pub fn flag(value: &Value, key: &str) -> Check<bool> {
    member(value, key)?.as_bool().ok_or_else(|| format!("'{key}' is neither true nor false"))
}

/// Hex string as bytes.
pub fn hex_of(value: &Value) -> Check<Vec<u8>> {
    let text = value.as_str().ok_or_else(|| format!("'{value}' is not a string"))?;
    hex::decode(text).map_err(|error| format!("'{text}' is not hex: {error}"))
}

/// Hex string as so many bytes.
pub fn array_of<const N: usize>(value: &Value) -> Check<[u8; N]> {
    let bytes = hex_of(value)?;
    bytes.try_into().map_err(|bytes: Vec<u8>| format!("{} bytes of hex instead of {N}", bytes.len()))
}

/// Hex member as so many bytes.
pub fn array<const N: usize>(value: &Value, key: &str) -> Check<[u8; N]> {
    array_of(member(value, key)?).map_err(|error| format!("{key}: {error}"))
}

/// A list of two numbers.
pub fn ratio(value: &Value, key: &str) -> Check<(u64, u64)> {
    match list(value, key)? {
        [first, second] => Ok((number_of(first)?, number_of(second)?)),
        _ => Err(format!("'{key}' is not a pair")),
    }
}

/// Fails unless both are equal.
#[allow(clippy::needless_pass_by_value, reason = "most callers compare values that they have just made")]
pub fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Check {
    if found == expected { Ok(()) } else { Err(format!("{what}: found {found:?}, expected {expected:?}")) }
}

/// Fails unless the bytes have the hash.
pub fn hash_equal(what: &str, found: &[u8], expected: &Value, key: &str) -> Check {
    equal(what, blake3::hash(found).to_string().as_str(), text(expected, key)?)
}

/// Fails unless the bytes fit an entry with `len` and `blake3`, and with the ends that it may give.
pub fn digest(what: &str, found: &[u8], expected: &Value) -> Check {
    equal(&format!("length of {what}"), found.len(), size(expected, "len")?)?;
    hash_equal(what, found, expected, "blake3")?;
    for (key, value) in expected.as_object().into_iter().flatten() {
        if let Some(count) = key.strip_prefix("first").and_then(|count| count.parse::<usize>().ok()) {
            equal(&format!("start of {what}"), &found[..count.min(found.len())], &hex_of(value)?[..])?;
        }
        if let Some(count) = key.strip_prefix("last").and_then(|count| count.parse::<usize>().ok()) {
            equal(
                &format!("end of {what}"),
                &found[found.len().saturating_sub(count)..],
                &hex_of(value)?[..],
            )?;
        }
    }
    Ok(())
}

/// The first bytes of the BLAKE3 stream of a label: how vectors name their inputs.
pub fn labelled(label: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(label.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// [`labelled`] bytes as an array.
pub fn labelled_array<const N: usize>(label: &str) -> [u8; N] {
    let mut bytes = [0; N];
    blake3::Hasher::new().update(label.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}
