//! Structures that a device reads and writes, as bytes.
#![allow(unsafe_code)]

use crate::interface::{AssembleArgs, HashArgs, ProofArgs, RecordArgs, RecordInput, RecordResult};

/// What is the same on both sides.
///
/// # Safety
/// The type is `repr(C)`, has no padding, and any bytes are a value of it.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: `repr(C)`, members are integers and arrays of them; the sizes below leave no room for padding.
unsafe impl Plain for RecordArgs {}
// SAFETY: as above.
unsafe impl Plain for HashArgs {}
// SAFETY: as above.
unsafe impl Plain for AssembleArgs {}
// SAFETY: as above.
unsafe impl Plain for ProofArgs {}
// SAFETY: as above.
unsafe impl Plain for RecordInput {}
// SAFETY: as above.
unsafe impl Plain for RecordResult {}

const _: () = assert!(
    size_of::<RecordArgs>() == 4 * 8
        && size_of::<HashArgs>() == 5 * 8
        && size_of::<AssembleArgs>() == 6 * 8 + 4 * 4
        && size_of::<ProofArgs>() == 4 * 8 + 2 * 4
        && size_of::<RecordInput>() == 32 + 5 * 8
        && size_of::<RecordResult>() == 4 * 4 + 4 * 32
);

/// Its bytes.
pub(crate) fn bytes_of<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: a `Plain` has no padding, so all of its bytes are initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// The value that the bytes are.
pub(crate) fn read<T: Plain>(bytes: &[u8]) -> T {
    assert_eq!(bytes.len(), size_of::<T>(), "the bytes of one value");
    // SAFETY: there are enough bytes, any of them are a `Plain`, and the read asks for no alignment.
    unsafe { bytes.as_ptr().cast::<T>().read_unaligned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_their_bytes() {
        let mut result = RecordResult { flags: 2, invalid: 0x0102_0304, ..RecordResult::default() };
        result.spans[3] = [9; 32];
        let bytes = bytes_of(&result);
        assert_eq!((bytes.len(), &bytes[..8], bytes[143]), (144, &[2, 0, 0, 0, 4, 3, 2, 1][..], 9));
        // At an odd address, too.
        let moved = [&[0], bytes].concat();
        assert_eq!(read::<RecordResult>(&moved[1..]), result);
    }
}
