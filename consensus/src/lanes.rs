//! BLAKE3 of one short block, many inputs side by side.
//!
//! Every hash on the hot paths of farming (2.86 G operations of a proof-of-space table, every audited chunk) is a single
//! BLAKE3 block of at most 32 bytes, so there is no tree: one compression with CHUNK_START, CHUNK_END and ROOT set. Lane `i` of
//! every vector belongs to input `i`.

/// First chunk block, last chunk block, root: the flags of a message that is one block long.
const SINGLE_BLOCK: u32 = 1 | 2 | 8;
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

/// Most inputs that a level takes side by side; buffers are this wide for every level.
pub(crate) const MAX_LANES: usize = 16;

/// One word of [`MAX_LANES`] inputs; a level of fewer lanes uses the first ones.
pub(crate) type Lanes = [u32; MAX_LANES];

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

/// One quarter round on column or diagonal `a b c d`, with its operations.
macro_rules! mix {
    ($v:ident, $m:ident, $n:ident, $round:literal, $place:literal, $a:literal, $b:literal, $c:literal, $d:literal,
     $add:expr, $xor:expr, $rotate16:expr, $rotate12:expr, $rotate8:expr, $rotate7:expr) => {
        let (x, y) = const { (SCHEDULE[$round][2 * $place], SCHEDULE[$round][2 * $place + 1]) };
        $v[$a] = $add($v[$a], $v[$b]);
        if x < $n {
            $v[$a] = $add($v[$a], $m[x]);
        }
        $v[$d] = $rotate16($xor($v[$d], $v[$a]));
        $v[$c] = $add($v[$c], $v[$d]);
        $v[$b] = $rotate12($xor($v[$b], $v[$c]));
        $v[$a] = $add($v[$a], $v[$b]);
        if y < $n {
            $v[$a] = $add($v[$a], $m[y]);
        }
        $v[$d] = $rotate8($xor($v[$d], $v[$a]));
        $v[$c] = $add($v[$c], $v[$d]);
        $v[$b] = $rotate7($xor($v[$b], $v[$c]));
    };
}

/// One round of a state `v` over a message `m` of `n` words.
macro_rules! round {
    ($v:ident, $m:ident, $n:ident, $round:literal, $($op:expr),*) => {
        mix!($v, $m, $n, $round, 0, 0, 4, 8, 12, $($op),*);
        mix!($v, $m, $n, $round, 1, 1, 5, 9, 13, $($op),*);
        mix!($v, $m, $n, $round, 2, 2, 6, 10, 14, $($op),*);
        mix!($v, $m, $n, $round, 3, 3, 7, 11, 15, $($op),*);
        mix!($v, $m, $n, $round, 4, 0, 5, 10, 15, $($op),*);
        mix!($v, $m, $n, $round, 5, 1, 6, 11, 12, $($op),*);
        mix!($v, $m, $n, $round, 6, 2, 7, 8, 13, $($op),*);
        mix!($v, $m, $n, $round, 7, 3, 4, 9, 14, $($op),*);
    };
}

/// Defines `name(parameters, message)`: the first four words of the hashes of several inputs, each of `N` little-endian words
/// (words beyond `N` are zero and cost nothing).
macro_rules! compression {
    ($(#[$attribute:meta])* $name:ident, $vector:ty, $splat:expr, $load:expr, $store:expr,
     $add:expr, $xor:expr, $rotate16:expr, $rotate12:expr, $rotate8:expr, $rotate7:expr) => {
        $(#[$attribute])*
        // Inlined next to code that handles single lanes, the compiler would take the vectors apart.
        #[inline(never)]
        pub(crate) fn $name<const N: usize>(parameters: &Parameters, message: &[Lanes; N]) -> [Lanes; 4] {
            let mut m: [$vector; N] = [$splat(0); N];
            for (m, words) in m.iter_mut().zip(message) {
                *m = $load(words);
            }
            let mut v: [$vector; 16] = [$splat(0); 16];
            for i in 0..8 {
                v[i] = $splat(parameters.chaining[i]);
            }
            for i in 0..4 {
                v[8 + i] = $splat(IV[i]);
            }
            v[14] = $splat(parameters.length_bytes);
            v[15] = $splat(parameters.flags);
            // Written out by macros: with loops here the compiler keeps the state in memory.
            round!(v, m, N, 0, $add, $xor, $rotate16, $rotate12, $rotate8, $rotate7);
            round!(v, m, N, 1, $add, $xor, $rotate16, $rotate12, $rotate8, $rotate7);
            round!(v, m, N, 2, $add, $xor, $rotate16, $rotate12, $rotate8, $rotate7);
            round!(v, m, N, 3, $add, $xor, $rotate16, $rotate12, $rotate8, $rotate7);
            round!(v, m, N, 4, $add, $xor, $rotate16, $rotate12, $rotate8, $rotate7);
            round!(v, m, N, 5, $add, $xor, $rotate16, $rotate12, $rotate8, $rotate7);
            round!(v, m, N, 6, $add, $xor, $rotate16, $rotate12, $rotate8, $rotate7);
            let mut out = [[0; MAX_LANES]; 4];
            for i in 0..4 {
                $store(&mut out[i], $xor(v[i], v[8 + i]));
            }
            out
        }
    };
}

mod portable {
    use super::Lanes;

    pub(super) type Vector = [u32; 4];

    pub(super) fn load(words: &Lanes) -> Vector {
        [words[0], words[1], words[2], words[3]]
    }

    pub(super) fn store(words: &mut Lanes, vector: Vector) {
        words[..4].copy_from_slice(&vector);
    }

    pub(super) fn add(a: Vector, b: Vector) -> Vector {
        std::array::from_fn(|i| a[i].wrapping_add(b[i]))
    }

    pub(super) fn xor(a: Vector, b: Vector) -> Vector {
        std::array::from_fn(|i| a[i] ^ b[i])
    }

    pub(super) fn rotate<const R: u32>(a: Vector) -> Vector {
        a.map(|word| word.rotate_right(R))
    }
}

compression!(
    compress_portable,
    portable::Vector,
    |word| [word; 4],
    portable::load,
    portable::store,
    portable::add,
    portable::xor,
    portable::rotate::<16>,
    portable::rotate::<12>,
    portable::rotate::<8>,
    portable::rotate::<7>
);

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{IV, Lanes, MAX_LANES, Parameters, SCHEDULE};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx2")]
    #[inline]
    fn load256(words: &Lanes) -> __m256i {
        // SAFETY: unaligned load of 8 of the 16 words.
        unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn store256(words: &mut Lanes, vector: __m256i) {
        // SAFETY: unaligned store of 8 of the 16 words.
        unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), vector) }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn splat256(word: u32) -> __m256i {
        _mm256_set1_epi32(word as i32)
    }

    /// Rotation right by `R` = 32 - `L` bits.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn rotate256<const R: i32, const L: i32>(v: __m256i) -> __m256i {
        _mm256_or_si256(_mm256_srli_epi32::<R>(v), _mm256_slli_epi32::<L>(v))
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn load512(words: &Lanes) -> __m512i {
        // SAFETY: unaligned load of the 16 words.
        unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn store512(words: &mut Lanes, vector: __m512i) {
        // SAFETY: unaligned store of the 16 words.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn splat512(word: u32) -> __m512i {
        _mm512_set1_epi32(word as i32)
    }

    compression!(
        #[target_feature(enable = "avx2")]
        compress_avx2,
        __m256i,
        splat256,
        load256,
        store256,
        _mm256_add_epi32,
        _mm256_xor_si256,
        rotate256::<16, 16>,
        rotate256::<12, 20>,
        rotate256::<8, 24>,
        rotate256::<7, 25>
    );

    compression!(
        #[target_feature(enable = "avx512f")]
        compress_avx512,
        __m512i,
        splat512,
        load512,
        store512,
        _mm512_add_epi32,
        _mm512_xor_si512,
        _mm512_ror_epi32::<16>,
        _mm512_ror_epi32::<12>,
        _mm512_ror_epi32::<8>,
        _mm512_ror_epi32::<7>
    );
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{compress_avx2, compress_avx512};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{CpuLevel, Level};
    use crate::simd::{self, Simd};

    fn words<const N: usize>(inputs: &[[u8; 32]; MAX_LANES]) -> [Lanes; N] {
        let mut message = [[0; MAX_LANES]; N];
        for (lane, input) in inputs.iter().enumerate() {
            for (i, word) in message.iter_mut().enumerate() {
                word[lane] = u32::from_le_bytes(input[4 * i..4 * i + 4].try_into().unwrap());
            }
        }
        message
    }

    fn inputs(length: usize) -> [[u8; 32]; MAX_LANES] {
        std::array::from_fn(|lane| {
            let mut input = *blake3::hash(&[lane as u8, length as u8]).as_bytes();
            input[length..].fill(0);
            input
        })
    }

    /// One body for every level: the library's hash of each input.
    fn check<S: Simd, const N: usize>(key: Option<[u8; 32]>, length: usize) {
        let inputs = inputs(length);
        let length_bytes = length as u32;
        let parameters =
            key.map_or(Parameters::plain(length_bytes), |key| Parameters::keyed(&key, length_bytes));
        // SAFETY: the caller goes through the levels that the machine has.
        let out = unsafe { S::compress::<N>(&parameters, &words(&inputs)) };
        for lane in 0..S::LANES {
            let input = &inputs[lane][..length];
            let expected = key.map_or_else(|| blake3::hash(input), |key| blake3::keyed_hash(&key, input));
            for (i, words) in out.iter().enumerate() {
                assert_eq!(words[lane].to_le_bytes(), expected.as_bytes()[4 * i..4 * i + 4], "{length} B");
            }
        }
    }

    fn check_all<S: Simd>() {
        let key = *blake3::hash(b"key").as_bytes();
        for length in 1..=32 {
            check::<S, 8>(None, length);
            check::<S, 8>(Some(key), length);
        }
        check::<S, 3>(None, 9);
        check::<S, 6>(None, 24);
    }

    #[test]
    fn every_level_equals_the_library() {
        for level in CpuLevel::available() {
            match level.level() {
                Level::Portable => check_all::<simd::Portable>(),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => check_all::<simd::Avx2>(),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => check_all::<simd::Avx512>(),
            }
        }
    }
}
