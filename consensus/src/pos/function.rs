//! The functions that make entries: f1 for table 1 and f2..f7 for the others (PROTOCOL 1, "Table 1" and "f_t").

use super::{EXTRA_BITS, POS_K, Seed, Y_BITS};
use chacha20::ChaCha8;
use chacha20::cipher::{KeyIvInit, StreamCipher};

/// Bytes of the key stream that table 1 reads: 20 bits for each of 2^20 values of x.
const STREAM_SIZE: usize = (POS_K as usize) << POS_K >> 3;

/// Bits of metadata in an entry of table 1..=7.
pub(super) const fn metadata_bits(table: u8) -> u32 {
    match table {
        1 => POS_K,
        2 | 6 => 2 * POS_K,
        3 | 4 => 4 * POS_K,
        5 => 3 * POS_K,
        _ => 0,
    }
}

/// Bytes that are hashed for an entry of table 2..=7.
pub(super) const fn input_bytes(table: u8) -> u32 {
    (Y_BITS + 2 * metadata_bits(table - 1)).div_ceil(8)
}

/// Fills `y` with y of table 1 for x = 0..y.len() in order; `y.len()` is at most 2^20 and even.
pub(super) fn f1(seed: &Seed, stream: &mut Vec<u8>, y: &mut [u32]) {
    stream.clear();
    stream.resize(STREAM_SIZE, 0);
    ChaCha8::new(seed.into(), &[0; 12].into()).apply_keystream(stream);
    for (i, (pair, bytes)) in y.as_chunks_mut::<2>().0.iter_mut().zip(stream.as_chunks::<5>().0).enumerate() {
        let [a, b, c, d, e] = *bytes;
        let bits = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
        let x = 2 * i as u32;
        *pair = [(bits >> POS_K) as u32, bits as u32 & ((1 << POS_K) - 1)]
            .map(|prefix| prefix << EXTRA_BITS | x >> (POS_K - EXTRA_BITS));
        debug_assert_eq!(x >> (POS_K - EXTRA_BITS), (x + 1) >> (POS_K - EXTRA_BITS));
    }
}

/// y of table 1 for one x, without the rest of the table.
pub(super) fn f1_single(seed: &Seed, x: u32) -> u32 {
    use chacha20::cipher::StreamCipherSeek;
    let first_bit = u64::from(x) * u64::from(POS_K);
    let mut bytes = [0; 4];
    let mut cipher = ChaCha8::new(seed.into(), &[0; 12].into());
    cipher.seek(first_bit / 8);
    cipher.apply_keystream(&mut bytes[..3]);
    let prefix = u32::from_be_bytes(bytes) << (first_bit % 8) >> (32 - POS_K);
    prefix << EXTRA_BITS | x >> (POS_K - EXTRA_BITS)
}

/// The hash input of an entry of table `T` as big-endian bits: left y, left metadata, right metadata; 128 bits and the 64 after.
#[inline(always)]
fn input_bits<const T: u8>(left_y: u32, left_metadata: u128, right_metadata: u128) -> (u128, u64) {
    let bits = metadata_bits(T - 1);
    let left_end = 128 - Y_BITS - bits;
    let head = u128::from(left_y) << (128 - Y_BITS) | left_metadata << left_end;
    if bits <= left_end {
        (head | right_metadata << (left_end - bits), 0)
    } else {
        let beyond = bits - left_end;
        (head | right_metadata >> beyond, (right_metadata << (64 - beyond)) as u64)
    }
}

/// y and metadata of table `T` out of the first 128 bits of the hash and the parents' metadata.
#[inline(always)]
fn output<const T: u8>(hash_bits: u128, left_metadata: u128, right_metadata: u128) -> (u32, u128) {
    let y = (hash_bits >> (128 - Y_BITS)) as u32;
    let metadata = match T {
        2 | 3 => left_metadata << metadata_bits(T - 1) | right_metadata,
        4..=6 => hash_bits << Y_BITS >> (128 - metadata_bits(T)),
        _ => 0,
    };
    (y, metadata)
}

/// One entry of table `T` out of its parents, hashed alone.
pub(super) fn f_single<const T: u8>(left_y: u32, left_metadata: u128, right_metadata: u128) -> (u32, u128) {
    let (head, tail) = input_bits::<T>(left_y, left_metadata, right_metadata);
    let mut input = [0; 24];
    input[..16].copy_from_slice(&head.to_be_bytes());
    input[16..].copy_from_slice(&tail.to_be_bytes());
    let hash = blake3::hash(&input[..input_bytes(T) as usize]);
    let (bits, _) = hash.as_bytes().split_at(16);
    let bits = u128::from_be_bytes(bits.try_into().expect("16 of the hash's 32 bytes"));
    output::<T>(bits, left_metadata, right_metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_sizes_are_the_networks() {
        assert_eq!([2, 3, 4, 5, 6, 7].map(input_bytes), [9, 14, 24, 24, 19, 14]);
    }

    #[test]
    fn f1_single_equals_the_table() {
        let seed = *blake3::hash(b"f1").as_bytes();
        let mut y = vec![0; 1 << POS_K];
        f1(&seed, &mut Vec::new(), &mut y);
        for x in [0, 1, 2, 51, 52, 1000, 524_287, (1 << POS_K) - 1] {
            assert_eq!(f1_single(&seed, x), y[x as usize], "x = {x}");
        }
    }
}
