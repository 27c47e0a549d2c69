//! Eight points side by side by AVX-512 IFMA.
//!
//! A point at rest is two cache lines: x and y, each a vector of eight limbs. In a block the same limb of eight points
//! makes a vector. Between the two forms lies the transposition of an 8 by 8 matrix of words. Coordinates are *near*
//! numbers (see [`fp8`]); infinity is all limbs zero, which no point's y is, because no point of the curve has y = 0
//! modulo p (its order is odd).

use super::field::LIMBS;
use super::fp8::{self, Fp8, LANES, vector};
use super::lanes::{NEGATE, NO_ENTRY, PointLanes, Sum, prefetch_ahead};
use crate::CpuLevel;
use crate::bls::G1Affine;
use blst::blst_p1_affine;
use std::arch::x86_64::*;

/// See the module. Exists only where the processor has the instructions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vector(());

/// A point at rest.
#[derive(Clone, Copy)]
#[repr(C, align(128))]
pub(super) struct Stored {
    x: __m512i,
    y: __m512i,
}

/// Eight points side by side.
#[derive(Clone, Copy)]
pub(super) struct Block {
    x: Fp8,
    y: Fp8,
}

/// What [`Vector::add`] keeps between its two passes.
#[derive(Default)]
pub(super) struct Scratch {
    /// For each sum the product of the divisors of all sums behind it.
    products: Vec<Fp8>,
}

/// Lanes of a sum that have no slope, by what they give.
struct Known {
    /// The first point is infinity: the other one.
    other: __mmask8,
    /// The other point is infinity: the first one, unless it is infinity, too.
    first: __mmask8,
    /// The points are opposite: infinity.
    infinity: __mmask8,
}

impl Vector {
    /// If the machine has the instructions and the level allows them.
    pub fn new(level: CpuLevel) -> Option<Self> {
        level.has_ifma().then_some(Self(()))
    }
}

const INFINITY: Stored = Stored { x: vector([0; LANES]), y: vector([0; LANES]) };

impl PointLanes for Vector {
    const LANES: usize = LANES;
    type Stored = Stored;
    type Block = Block;
    type Scratch = Scratch;

    fn stored_infinity(self) -> Stored {
        INFINITY
    }

    fn block_infinity(self) -> Block {
        Block { x: Fp8::ZERO, y: Fp8::ZERO }
    }

    fn store(self, points: &[G1Affine], stored: &mut Vec<Stored>) {
        for chunk in points.chunks(LANES) {
            let lane = |lane: usize| chunk.get(lane).copied().unwrap_or_default().0;
            let points: [blst_p1_affine; LANES] = std::array::from_fn(lane);
            // SAFETY: a `Vector` exists only on processors with the instructions.
            let all = unsafe { store(&points) };
            stored.extend_from_slice(&all[..chunk.len()]);
        }
    }

    fn restore(self, stored: &Stored) -> G1Affine {
        // SAFETY: a `Vector` exists only on processors with the instructions.
        G1Affine(unsafe { restore(stored) })
    }

    fn gather(self, points: &[Stored], entries: &[u32], blocks: &mut [Block]) {
        // SAFETY: a `Vector` exists only on processors with the instructions.
        unsafe { gather(points, entries, blocks) }
    }

    fn scatter(self, block: &Block, stored: &mut [Stored]) {
        // SAFETY: a `Vector` exists only on processors with the instructions.
        unsafe { scatter(block, stored) }
    }

    fn add(self, blocks: &mut [Block], sums: &[Sum], scratch: &mut Scratch) {
        // SAFETY: a `Vector` exists only on processors with the instructions.
        unsafe { add(blocks, sums, &mut scratch.products) }
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn store(points: &[blst_p1_affine; LANES]) -> [Stored; LANES] {
    let block = Block {
        x: fp8::from_blst(&points.map(|point| point.x)),
        y: fp8::from_blst(&points.map(|point| point.y)),
    };
    // Multiplication keeps zero zero, but may give it as p.
    let infinite = (0..LANES).filter(|lane| points[*lane] == blst_p1_affine::default());
    let mask = infinite.fold(0, |mask, lane| mask | 1 << lane);
    let zero = Fp8::ZERO;
    let block = Block { x: fp8::select(mask, &block.x, &zero), y: fp8::select(mask, &block.y, &zero) };
    let mut stored = [INFINITY; LANES];
    scatter(&block, &mut stored);
    stored
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn restore(stored: &Stored) -> blst_p1_affine {
    let mut block = Block { x: Fp8::ZERO, y: Fp8::ZERO };
    let mut entries = [NO_ENTRY; LANES];
    entries[0] = 0;
    gather(std::slice::from_ref(stored), &entries, std::slice::from_mut(&mut block));
    blst_p1_affine { x: fp8::to_blst(&block.x)[0], y: fp8::to_blst(&block.y)[0] }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn gather(points: &[Stored], entries: &[u32], blocks: &mut [Block]) {
    let (groups, rest) = entries.as_chunks::<LANES>();
    assert!(groups.len() == blocks.len() && rest.is_empty(), "one entry a lane");
    for (i, (block, group)) in blocks.iter_mut().zip(groups).enumerate() {
        prefetch_ahead(points, entries, i * LANES, LANES);
        let mut negate = 0;
        let mut rows = [&INFINITY; LANES];
        for (lane, entry) in group.iter().enumerate() {
            if *entry != NO_ENTRY {
                rows[lane] = &points[(*entry & !NEGATE) as usize];
                negate |= u8::from(*entry & NEGATE != 0) << lane;
            }
        }
        block.x = Fp8(transpose(rows.map(|row| row.x)));
        block.y = negate_lanes(negate, &Fp8(transpose(rows.map(|row| row.y))));
    }
}

/// `-y` in the lanes of the mask, of near numbers; infinity's zero stays.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn negate_lanes(mask: __mmask8, y: &Fp8) -> Fp8 {
    let negative = fp8::sub_near(&Fp8::ZERO, y);
    fp8::select(mask & !fp8::is_blank(y), y, &negative)
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn scatter(block: &Block, stored: &mut [Stored]) {
    let stored: &mut [Stored; LANES] = stored.try_into().expect("a place for each lane");
    let (xs, ys) = (transpose(block.x.0), transpose(block.y.0));
    for (place, (x, y)) in stored.iter_mut().zip(xs.into_iter().zip(ys)) {
        *place = Stored { x, y };
    }
}

/// Rows to columns: word `j` of vector `i` becomes word `i` of vector `j`.
#[target_feature(enable = "avx512f")]
#[inline]
fn transpose(rows: [__m512i; LIMBS]) -> [__m512i; LIMBS] {
    // Halves of pairs of rows: words 0 2 4 6 of two rows in turn, and words 1 3 5 7.
    let [a, b, c, d] = [(0, 1), (2, 3), (4, 5), (6, 7)].map(|(i, j)| (rows[i], rows[j]));
    let even = [a, b, c, d].map(|(i, j)| _mm512_unpacklo_epi64(i, j));
    let odd = [a, b, c, d].map(|(i, j)| _mm512_unpackhi_epi64(i, j));
    let [out0, out2, out4, out6] = transpose_pairs(even);
    let [out1, out3, out5, out7] = transpose_pairs(odd);
    [out0, out1, out2, out3, out4, out5, out6, out7]
}

/// The same for 4 by 4 pairs of words.
#[target_feature(enable = "avx512f")]
#[inline]
fn transpose_pairs([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let ab_even = _mm512_shuffle_i64x2::<0b10_00_10_00>(a, b);
    let ab_odd = _mm512_shuffle_i64x2::<0b11_01_11_01>(a, b);
    let cd_even = _mm512_shuffle_i64x2::<0b10_00_10_00>(c, d);
    let cd_odd = _mm512_shuffle_i64x2::<0b11_01_11_01>(c, d);
    [
        _mm512_shuffle_i64x2::<0b10_00_10_00>(ab_even, cd_even),
        _mm512_shuffle_i64x2::<0b10_00_10_00>(ab_odd, cd_odd),
        _mm512_shuffle_i64x2::<0b11_01_11_01>(ab_even, cd_even),
        _mm512_shuffle_i64x2::<0b11_01_11_01>(ab_odd, cd_odd),
    ]
}

/// See [`PointLanes::add`].
#[target_feature(enable = "avx512f,avx512ifma")]
fn add(blocks: &mut [Block], sums: &[Sum], products: &mut Vec<Fp8>) {
    products.clear();
    products.resize(sums.len(), Fp8::ZERO);
    let mut product = Fp8::ONE;
    for (sum, place) in sums.iter().zip(products.iter_mut()).rev() {
        let (a, b) = (&blocks[sum.target as usize], &blocks[sum.other as usize]);
        let mut divisor = fp8::sub(&b.x, &a.x);
        if is_special(a, b, &divisor) {
            special(a, b, &mut divisor, None);
        }
        *place = product;
        product = fp8::mul(&product, &divisor);
    }
    let mut inverse = fp8::invert(&product);
    for (sum, product) in sums.iter().zip(products.iter()) {
        let (a, b) = (&blocks[sum.target as usize], &blocks[sum.other as usize]);
        let mut divisor = fp8::sub(&b.x, &a.x);
        let mut numerator = fp8::sub(&b.y, &a.y);
        let mut known = None;
        if is_special(a, b, &divisor) {
            known = Some((special(a, b, &mut divisor, Some(&mut numerator)), *a, *b));
        }
        let slope = fp8::mul(&fp8::mul(&inverse, product), &numerator);
        inverse = fp8::mul(&inverse, &divisor);
        let x = fp8::sub_two_near(&fp8::square(&slope), &a.x, &b.x);
        let y = fp8::sub_near(&fp8::mul(&slope, &fp8::sub(&a.x, &x)), &a.y);
        let target = &mut blocks[sum.target as usize];
        (target.x, target.y) = (x, y);
        if let Some((known, a, b)) = known {
            replace(&known, target, &a, &b);
        }
    }
}

/// Whether a lane may have no slope, or a tangent's. Seldom wrong, and then harmless.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn is_special(a: &Block, b: &Block, divisor: &Fp8) -> bool {
    let a_blank = _mm512_testn_epi64_mask(a.y.0[0], a.y.0[0]);
    let b_blank = _mm512_testn_epi64_mask(b.y.0[0], b.y.0[0]);
    a_blank | b_blank | fp8::maybe_zero(divisor) != 0
}

/// Sorts lanes out: a tangent's slope for equal points, and a divisor of one where the sum is known without a slope.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline(never)]
fn special(a: &Block, b: &Block, divisor: &mut Fp8, numerator: Option<&mut Fp8>) -> Known {
    let (first_blank, other_blank) = (fp8::is_blank(&a.y), fp8::is_blank(&b.y));
    let same_x = fp8::is_multiple(divisor) & !first_blank & !other_blank;
    let same_y = fp8::is_multiple(&fp8::sub(&b.y, &a.y));
    let (equal, opposite) = (same_x & same_y, same_x & !same_y);
    if equal != 0 {
        *divisor = fp8::select(equal, divisor, &fp8::times::<2>(&a.y));
        if let Some(numerator) = numerator {
            let tangent = fp8::times::<3>(&fp8::square(&a.x));
            *numerator = fp8::select(equal, numerator, &tangent);
        }
    }
    *divisor = fp8::select(first_blank | other_blank | opposite, divisor, &Fp8::ONE);
    Known { other: first_blank, first: other_blank & !first_blank, infinity: opposite }
}

/// Puts what is known into its lanes.
#[target_feature(enable = "avx512f")]
#[inline(never)]
fn replace(known: &Known, point: &mut Block, a: &Block, b: &Block) {
    let coordinates = [(&mut point.x, &a.x, &b.x), (&mut point.y, &a.y, &b.y)];
    for (coordinate, a, b) in coordinates {
        *coordinate = fp8::select(known.other, coordinate, b);
        *coordinate = fp8::select(known.first, coordinate, a);
        *coordinate = fp8::select(known.infinity, coordinate, &Fp8::ZERO);
    }
}
