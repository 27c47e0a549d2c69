//! BLAKE3 of short inputs, many side by side: lane `i` of every vector belongs to input `i`.
//!
//! Nearly every hash on the hot paths of farming (2.86 G operations of a proof-of-space table, every audited chunk) is a single
//! BLAKE3 block of at most 32 bytes, so there is no tree: one compression with CHUNK_START, CHUNK_END and ROOT set. The hash of
//! a proof of space is three blocks of one chunk.

use crate::simd::{MAX_LANES, Quad, at_every_level};

/// Flag of the first block of a chunk.
const CHUNK_START: u32 = 1;
/// Flag of the last block of a chunk.
const CHUNK_END: u32 = 2;
/// Flag of the last compression.
const ROOT: u32 = 8;
/// The flags of a message that is one block long.
const SINGLE_BLOCK: u32 = CHUNK_START | CHUNK_END | ROOT;
/// Flag that replaces the IV by a key.
const KEYED_HASH: u32 = 16;

const IV: [u32; 8] =
    [0x6A09_E667, 0xBB67_AE85, 0x3C6E_F372, 0xA54F_F53A, 0x510E_527F, 0x9B05_688C, 0x1F83_D9AB, 0x5BE0_CD19];

/// Order in which round `r + 1` reads the words of round `r`.
const PERMUTATION: [usize; 16] = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];

/// Which message word each of the seven rounds reads in each of its sixteen places.
const SCHEDULE: [[usize; 16]; 7] = schedule();

const fn schedule() -> [[usize; 16]; 7] {
    let mut rounds = [[0; 16]; 7];
    let mut i = 0;
    while i < 16 {
        rounds[0][i] = i;
        i += 1;
    }
    let mut round = 1;
    while round < 7 {
        let mut i = 0;
        while i < 16 {
            rounds[round][i] = rounds[round - 1][PERMUTATION[i]];
            i += 1;
        }
        round += 1;
    }
    rounds
}

/// What all inputs of a call have in common.
pub(crate) struct Parameters {
    /// IV or key.
    chaining: [u32; 8],
    /// Bytes of an input that count.
    length_bytes: u32,
    flags: u32,
}

impl Parameters {
    /// Plain BLAKE3 of inputs of `length_bytes`, 1..=32.
    pub(crate) const fn plain(length_bytes: u32) -> Self {
        Self { chaining: IV, length_bytes, flags: SINGLE_BLOCK }
    }

    /// BLAKE3 keyed with 32 bytes, of inputs of `length_bytes`.
    pub(crate) fn keyed(key: &[u8; 32], length_bytes: u32) -> Self {
        let mut chaining = [0; 8];
        for (word, bytes) in chaining.iter_mut().zip(key.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        Self { chaining, length_bytes, flags: SINGLE_BLOCK | KEYED_HASH }
    }
}

/// One quarter round on column or diagonal `a b c d`.
macro_rules! mix {
    ($v:ident, $m:ident, $n:ident, $round:literal, $place:literal, $a:literal, $b:literal, $c:literal, $d:literal) => {
        let (x, y) = const { (SCHEDULE[$round][2 * $place], SCHEDULE[$round][2 * $place + 1]) };
        $v[$a] = add($v[$a], $v[$b]);
        if x < $n {
            $v[$a] = add($v[$a], $m[x]);
        }
        $v[$d] = rotate::<16>(xor($v[$d], $v[$a]));
        $v[$c] = add($v[$c], $v[$d]);
        $v[$b] = rotate::<12>(xor($v[$b], $v[$c]));
        $v[$a] = add($v[$a], $v[$b]);
        if y < $n {
            $v[$a] = add($v[$a], $m[y]);
        }
        $v[$d] = rotate::<8>(xor($v[$d], $v[$a]));
        $v[$c] = add($v[$c], $v[$d]);
        $v[$b] = rotate::<7>(xor($v[$b], $v[$c]));
    };
}

/// One round of a state `v` over a message `m` of `n` words.
macro_rules! round {
    ($v:ident, $m:ident, $n:ident, $round:literal) => {
        mix!($v, $m, $n, $round, 0, 0, 4, 8, 12);
        mix!($v, $m, $n, $round, 1, 1, 5, 9, 13);
        mix!($v, $m, $n, $round, 2, 2, 6, 10, 14);
        mix!($v, $m, $n, $round, 3, 3, 7, 11, 15);
        mix!($v, $m, $n, $round, 4, 0, 5, 10, 15);
        mix!($v, $m, $n, $round, 5, 1, 6, 11, 12);
        mix!($v, $m, $n, $round, 6, 2, 7, 8, 13);
        mix!($v, $m, $n, $round, 7, 3, 4, 9, 14);
    };
}

/// Bytes of a block.
const BLOCK_SIZE: usize = 64;
/// Quads of a block.
const BLOCK_QUADS: usize = BLOCK_SIZE / size_of::<Quad>();
/// Bytes of an input of [`hash_160`](portable::hash_160): two blocks and a half.
const LONG_SIZE: usize = 160;
/// Quads of such an input.
const LONG_QUADS: usize = LONG_SIZE / size_of::<Quad>();

at_every_level! { use;
    /// The first four words of the hashes of several inputs, each of `N` little-endian words; words beyond `N` are zero and
    /// cost nothing.
    // Not inlined: with its sixteen words of state it needs all registers to itself.
    #[inline(never)]
    fn hash[const N: usize](parameters: &Parameters, m: &[Words; N]) -> [Words; 4] {
        let mut chaining = [splat(0); 8];
        for (vector, word) in chaining.iter_mut().zip(parameters.chaining) {
            *vector = splat(word);
        }
        let [a, b, c, d, ..] = compress(&chaining, m, parameters.length_bytes, parameters.flags);
        [a, b, c, d]
    }

    /// The compression function for a block of which `N` words can be other than zero.
    #[inline]
    fn compress[const N: usize](chaining: &[Words; 8], m: &[Words; N], length_bytes: u32, flags: u32) -> [Words; 8] {
        let [c0, c1, c2, c3, c4, c5, c6, c7] = *chaining;
        let [i0, i1, i2, i3, ..] = IV;
        let (counter, length, flags) = (splat(0), splat(length_bytes), splat(flags));
        let mut v = [
            c0, c1, c2, c3, c4, c5, c6, c7,
            splat(i0), splat(i1), splat(i2), splat(i3), counter, counter, length, flags,
        ];
        // Written out by macros: with loops here the compiler keeps the state in memory.
        round!(v, m, N, 0);
        round!(v, m, N, 1);
        round!(v, m, N, 2);
        round!(v, m, N, 3);
        round!(v, m, N, 4);
        round!(v, m, N, 5);
        round!(v, m, N, 6);
        [
            xor(v[0], v[8]),
            xor(v[1], v[9]),
            xor(v[2], v[10]),
            xor(v[3], v[11]),
            xor(v[4], v[12]),
            xor(v[5], v[13]),
            xor(v[6], v[14]),
            xor(v[7], v[15]),
        ]
    }

    /// Hashes of inputs of 160 bytes.
    fn hash_160(inputs: &[[u8; LONG_SIZE]; MAX_LANES], hashes: &mut [[u8; 32]; MAX_LANES]) {
        let mut quads: [Quad; 256] = [[0; 4]; 256];
        let words = inputs.as_flattened().as_chunks::<4>().0;
        for (word, bytes) in quads.as_flattened_mut().iter_mut().zip(words) {
            *word = u32::from_le_bytes(*bytes);
        }
        for (group, hashes) in hashes.chunks_exact_mut(LANES).enumerate() {
            let mut chaining = [splat(0); 8];
            for (vector, word) in chaining.iter_mut().zip(IV) {
                *vector = splat(word);
            }
            let first = group * LANES;
            let chaining = compress(&chaining, &block::<BLOCK_SIZE>(&quads, first, 0), 64, CHUNK_START);
            let chaining = compress(&chaining, &block::<BLOCK_SIZE>(&quads, first, 1), 64, 0);
            let words = compress(&chaining, &block::<32>(&quads, first, 2), 32, CHUNK_END | ROOT);
            let (mut low, mut high) = ([[0; 4]; MAX_LANES], [[0; 4]; MAX_LANES]);
            store_quads(&mut low, [words[0], words[1], words[2], words[3]]);
            store_quads(&mut high, [words[4], words[5], words[6], words[7]]);
            for (hash, halves) in hashes.iter_mut().zip(low.into_iter().zip(high)) {
                let words = halves.0.iter().chain(&halves.1);
                hash.as_chunks_mut::<4>().0.iter_mut().zip(words).for_each(|(bytes, word)| *bytes = word.to_le_bytes());
            }
        }
    }

    /// Block number `block` of the long inputs from number `first` on, `SIZE` bytes of it; what lies behind is zero.
    #[inline]
    fn block[const SIZE: usize](quads: &[Quad; 256], first: usize, block: usize) -> [Words; 16] {
        let mut words = [splat(0); 16];
        for (i, words) in words.as_chunks_mut::<4>().0.iter_mut().enumerate().take(SIZE / size_of::<Quad>()) {
            let at = std::array::from_fn(|lane| ((first + lane) * LONG_QUADS + block * BLOCK_QUADS + i) as u16);
            *words = load_quads(quads, &at);
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CpuLevel;
    use crate::simd::{MAX_LANES, at_level};

    fn inputs(length: usize) -> [[u8; 32]; MAX_LANES] {
        std::array::from_fn(|lane| {
            let mut input = *blake3::hash(&[lane as u8, length as u8]).as_bytes();
            input[length..].fill(0);
            input
        })
    }

    at_every_level! { use crate::lanes;
        /// The library's hash of each input.
        fn check[const N: usize](key: Option<[u8; 32]>, length: usize) {
            let inputs = inputs(length);
            let length_bytes = length as u32;
            let parameters = key.map_or(Parameters::plain(length_bytes), |key| Parameters::keyed(&key, length_bytes));
            let mut message = [splat(0); N];
            for (i, words) in message.iter_mut().enumerate() {
                let quads = inputs.map(|input| [u32::from_le_bytes(input[4 * i..4 * i + 4].try_into().unwrap()); 4]);
                *words = load_quads(&quads, &std::array::from_fn(|lane| lane as u16))[0];
            }
            let out = hash(&parameters, &message);
            for (i, words) in out.into_iter().enumerate() {
                let mut found = [0; MAX_LANES];
                store(&mut found, words);
                for (word, input) in found.iter().zip(&inputs).take(LANES) {
                    let input = &input[..length];
                    let expected = key.map_or_else(|| blake3::hash(input), |key| blake3::keyed_hash(&key, input));
                    assert_eq!(word.to_le_bytes(), expected.as_bytes()[4 * i..4 * i + 4], "{length} bytes");
                }
            }
        }

        fn check_all() {
            let key = *blake3::hash(b"key").as_bytes();
            for length in 1..=32 {
                check::<8>(None, length);
                check::<8>(Some(key), length);
            }
            check::<3>(None, 9);
            check::<6>(None, 24);
            let inputs: [[u8; LONG_SIZE]; MAX_LANES] =
                std::array::from_fn(|lane| std::array::from_fn(|i| (i * 7 + lane * 31) as u8));
            let mut hashes = [[0; 32]; MAX_LANES];
            hash_160(&inputs, &mut hashes);
            assert_eq!(hashes, inputs.map(|input| *blake3::hash(&input).as_bytes()));
        }
    }

    #[test]
    fn every_level_equals_the_library() {
        for level in CpuLevel::available() {
            at_level!(level, check_all());
        }
    }
}
