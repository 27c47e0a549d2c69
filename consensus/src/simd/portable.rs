//! Arrays, for every processor.

use super::{MAX_LANES, Quad};
use std::array::from_fn;

/// Lanes of [`Words`].
pub(crate) const LANES: usize = 4;
/// Lanes of [`Keys`].
pub(crate) const KEYS: usize = 8;
/// Lanes of [`Bytes`].
pub(crate) const BYTES: usize = 16;

pub(crate) type Words = [u32; LANES];
pub(crate) type Keys = [u16; KEYS];
pub(crate) type Bytes = [u8; BYTES];

#[inline]
pub(crate) fn splat(word: u32) -> Words {
    [word; LANES]
}

#[inline]
pub(crate) fn store(words: &mut [u32; MAX_LANES], vector: Words) {
    words[..LANES].copy_from_slice(&vector);
}

/// 16-bit numbers as words.
#[inline]
pub(crate) fn load_u16(numbers: &[u16; MAX_LANES]) -> Words {
    from_fn(|i| numbers[i].into())
}

/// The low halves of the words.
#[inline]
pub(crate) fn store_u16(numbers: &mut [u16; MAX_LANES], vector: Words) {
    numbers[..LANES].copy_from_slice(&vector.map(|word| word as u16));
}

#[inline]
pub(crate) fn add(a: Words, b: Words) -> Words {
    from_fn(|i| a[i].wrapping_add(b[i]))
}

#[inline]
pub(crate) fn sub(a: Words, b: Words) -> Words {
    from_fn(|i| a[i].wrapping_sub(b[i]))
}

#[inline]
pub(crate) fn and(a: Words, b: Words) -> Words {
    from_fn(|i| a[i] & b[i])
}

#[inline]
pub(crate) fn or(a: Words, b: Words) -> Words {
    from_fn(|i| a[i] | b[i])
}

#[inline]
pub(crate) fn xor(a: Words, b: Words) -> Words {
    from_fn(|i| a[i] ^ b[i])
}

#[inline]
pub(crate) fn shl<const BITS: u32>(a: Words) -> Words {
    a.map(|word| word << BITS)
}

#[inline]
pub(crate) fn shr<const BITS: u32>(a: Words) -> Words {
    a.map(|word| word >> BITS)
}

#[inline]
pub(crate) fn rotate<const RIGHT: i32>(a: Words) -> Words {
    a.map(|word| word.rotate_right(RIGHT as u32))
}

/// The low words of the products.
#[inline]
pub(crate) fn multiply(a: Words, b: Words) -> Words {
    from_fn(|i| a[i].wrapping_mul(b[i]))
}

/// The high words of the products.
#[inline]
pub(crate) fn multiply_high(a: Words, b: Words) -> Words {
    from_fn(|i| ((u64::from(a[i]) * u64::from(b[i])) >> 32) as u32)
}

/// The bytes of each word in reverse.
#[inline]
pub(crate) fn swap_bytes(a: Words) -> Words {
    a.map(u32::swap_bytes)
}

/// Words 0 to 3 of the quads with these numbers, counted modulo `N`, a power of two.
#[inline]
pub(crate) fn load_quads<const N: usize>(quads: &[Quad; N], at: &[u16; MAX_LANES]) -> [Words; 4] {
    const { assert!(N.is_power_of_two()) };
    from_fn(|word| from_fn(|i| quads[usize::from(at[i]) & (N - 1)][word]))
}

/// The reverse of [`load_quads`] for quads in order.
#[inline]
pub(crate) fn store_quads(quads: &mut [Quad; MAX_LANES], words: [Words; 4]) {
    for (i, quad) in quads[..LANES].iter_mut().enumerate() {
        *quad = words.map(|word| word[i]);
    }
}

#[inline]
pub(crate) fn splat_key(key: u16) -> Keys {
    [key; KEYS]
}

#[inline]
pub(crate) fn load_keys(keys: &[u16; KEYS]) -> Keys {
    *keys
}

#[inline]
pub(crate) fn store_keys(keys: &mut [u16; KEYS], vector: Keys) {
    *keys = vector;
}

/// One more in each lane where `a` < `b`; both below 2^15.
#[inline]
pub(crate) fn count_less(counts: Keys, a: Keys, b: Keys) -> Keys {
    from_fn(|i| counts[i].wrapping_add(u16::from(a[i] < b[i])))
}

#[inline]
pub(crate) fn splat_byte(byte: u8) -> Bytes {
    [byte; BYTES]
}

#[inline]
pub(crate) fn load_bytes(bytes: &[u8; BYTES]) -> Bytes {
    *bytes
}

/// `(a - b) mod modulus`, for `a` and `b` below the modulus, which is below 128.
#[inline]
pub(crate) fn sub_modulo(a: Bytes, b: Bytes, modulus: u8) -> Bytes {
    from_fn(|i| {
        let difference = a[i].wrapping_sub(b[i]);
        difference.min(difference.wrapping_add(modulus))
    })
}

/// A table of 64 bytes, ready to look up in.
#[inline]
pub(crate) fn load_table(table: &[u8; 64]) -> &[u8; 64] {
    table
}

/// The table's bytes at places below 128; beyond the table it is zero.
#[inline]
pub(crate) fn look_up(table: &[u8; 64], places: Bytes) -> Bytes {
    // All ones below 64, in place of a branch.
    places.map(|place| table[usize::from(place & 63)] & (place >> 6).wrapping_sub(1))
}

/// Bit i: whether `a` and `b` are equal in lane i.
#[inline]
pub(crate) fn equal(a: Bytes, b: Bytes) -> u64 {
    let equal: Bytes = from_fn(|i| u8::from(a[i] == b[i]));
    // Nearly always none is.
    if equal == [0; BYTES] {
        return 0;
    }
    (0..BYTES).fold(0, |bits, i| bits | u64::from(equal[i]) << i)
}

/// Writes `first + i` for every word i that is not zero, in order, and returns how many these are; what lies behind
/// them is overwritten.
#[inline]
pub(crate) fn list_non_zero(words: &[u64; 8], first: u16, list: &mut [u16; 8]) -> usize {
    let mut count = 0;
    for (number, word) in (first..).zip(words) {
        // Without a branch, since nobody can predict which words are zero.
        list[count & 7] = number;
        count += usize::from(*word != 0);
    }
    count
}
