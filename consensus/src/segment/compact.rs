//! SCALE compact lengths up to 2^30 - 1: 1, 2 or 4 bytes, low two bits naming which.

/// Lengths below this take one byte.
const ONE_BYTE_LIMIT: usize = 1 << 6;
/// Lengths below this take two bytes.
const TWO_BYTE_LIMIT: usize = 1 << 14;
/// Lengths below this take four bytes; no longer item fits a segment.
const FOUR_BYTE_LIMIT: usize = 1 << 30;

/// Bytes that the compact form of `length` takes.
pub(crate) const fn compact_size(length: usize) -> usize {
    if length < ONE_BYTE_LIMIT {
        1
    } else if length < TWO_BYTE_LIMIT {
        2
    } else {
        4
    }
}

/// Appends `length`, which must be below 2^30.
pub(super) fn push_compact(length: usize, out: &mut Vec<u8>) {
    assert!(length < FOUR_BYTE_LIMIT, "items are bounded by MAX_BLOCK_SIZE");
    let mode = match compact_size(length) {
        1 => 0,
        2 => 1,
        _ => 2,
    };
    let bytes = ((length as u32) << 2 | mode).to_le_bytes();
    out.extend_from_slice(&bytes[..compact_size(length)]);
}

/// Reads a length from the front: `(length, rest)`. `None` when the input ends early, or holds a length in more
/// bytes than it needs, or 2^30 and above.
pub(super) fn split_compact(input: &[u8]) -> Option<(usize, &[u8])> {
    let size = match input.first()? & 3 {
        0 => 1,
        1 => 2,
        2 => 4,
        _ => return None,
    };
    let (head, rest) = input.split_at_checked(size)?;
    let mut word = [0; 4];
    word[..size].copy_from_slice(head);
    let length = (u32::from_le_bytes(word) >> 2) as usize;
    (compact_size(length) == size).then_some((length, rest))
}

#[cfg(test)]
mod tests {
    use parity_scale_codec::{Compact, Encode};

    use super::*;

    #[test]
    fn agrees_with_scale() {
        for length in [0, 1, 63, 64, 65, 16383, 16384, 130_023_424, (1 << 30) - 1] {
            let mut bytes = Vec::new();
            push_compact(length, &mut bytes);
            assert_eq!(bytes, Compact(length as u32).encode());
            assert_eq!(bytes.len(), compact_size(length));
            bytes.push(7);
            assert_eq!(split_compact(&bytes), Some((length, &[7][..])));
        }
    }

    #[test]
    fn bad_lengths_are_refused() {
        assert_eq!(split_compact(&[]), None);
        assert_eq!(split_compact(&[0x01]), None, "cut short");
        assert_eq!(split_compact(&[0xfd, 0x00]), None, "63 in two bytes");
        assert_eq!(split_compact(&[0xfe, 0xff, 0x00, 0x00]), None, "16383 in four bytes");
        assert_eq!(split_compact(&[0x03, 0, 0, 0, 0x40]), None, "2^30");
    }
}
