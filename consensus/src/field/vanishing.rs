//! The polynomial that vanishes at given points, by its values.
//!
//! A tree of products, as [`crate::erasure`] explains it. The leaves are dealt to the eight lanes, which build a tree each, side by side;
//! what they come to is brought into rows, and three more levels join the eight rows into one. Here numbers are in Montgomery form, 2^260
//! times theirs, as products need it. Values lie in natural order, and are carried and below 1.1 between the levels.

use super::Ifma;
use super::convert::{from_scalars, interleave, to_scalars, transpose};
use super::eight::{Eight, canonical, carry, limbs, multiply, shrink, splat, subtract_below_2};
use super::rows::{RowExtender, to_odd_points, zero};
use super::transform::{ROW_WIDTH_MIN, bit_reverse, bit_reversed_row, scatter};
use super::twiddles::{FORWARD, INVERSE, montgomery};
use crate::bls::Scalar;
use crate::fft::reversed;

impl Ifma {
    /// Values of the product of (X - root) over all roots at the powers of omega, which are twice as many; none if there are too few
    /// roots for rows. Their number must be a power of two, 32 768 at most.
    pub(crate) fn vanishing_values(self, roots: &[Scalar]) -> Option<Vec<Scalar>> {
        assert!(roots.len().is_power_of_two());
        // The first rows are joined from lanes with an eighth of the roots and twice as many values.
        // SAFETY: the token says that the machine has AVX-512 IFMA.
        (roots.len() >= 4 * ROW_WIDTH_MIN).then(|| unsafe { vanishing_values(self, roots) })
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn vanishing_values(ifma: Ifma, roots: &[Scalar]) -> Vec<Scalar> {
    let mut values = leaves(roots);
    let mut scratch = vec![zero(); values.len()];
    build(&mut values, &mut scratch);

    let mut rows = scratch;
    lanes_to_rows(&values, &mut rows);
    drop(values);
    let mut row = rows.len() / 8;
    while row < rows.len() {
        let mut extender = ifma.row_extender(8 * row).expect("rows are wide enough, and not too wide");
        for pair in rows.chunks_exact_mut(2 * row) {
            join_rows(pair, &mut extender);
        }
        row *= 2;
    }
    let mut out = vec![Scalar::ZERO; 8 * rows.len()];
    // From 2^260 to 2^256 times the number.
    let factor = splat(&limbs(Scalar::ONE.to_words()));
    for (scalars, number) in out.as_chunks_mut::<8>().0.iter_mut().zip(&rows) {
        *scalars = to_scalars(&canonical(&multiply(number, &factor)));
    }
    out
}

/// For each root the values of (X - root) at 1 and -1. Lane l has the l-th eighth of the roots.
#[target_feature(enable = "avx512f,avx512ifma")]
fn leaves(roots: &[Scalar]) -> Vec<Eight> {
    let lane = roots.len() / 8;
    // From 2^256 to 2^260 times the number.
    let factor = splat(&limbs(Scalar::from_u64(256).to_words()));
    let (one, minus_one) = (splat(&montgomery(Scalar::ONE)), splat(&montgomery(-Scalar::ONE)));
    let mut values = vec![zero(); 2 * lane];
    for (i, pair) in values.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        let root = multiply(&from_scalars(&std::array::from_fn(|l| roots[l * lane + i])), &factor);
        *pair = [
            shrink(&carry(&subtract_below_2(&one, &root))),
            shrink(&carry(&subtract_below_2(&minus_one, &root))),
        ];
    }
    values
}

/// All levels of the eight trees, depth first.
#[target_feature(enable = "avx512f,avx512ifma")]
fn build(values: &mut [Eight], scratch: &mut [Eight]) {
    let half = values.len() / 2;
    if half > 1 {
        build(&mut values[..half], scratch);
        build(&mut values[half..], scratch);
        join(values, scratch);
    }
}

/// The values of two products at as many points each become those of their product at twice as many.
#[target_feature(enable = "avx512f,avx512ifma")]
fn join(values: &mut [Eight], scratch: &mut [Eight]) {
    let width = values.len() / 2;
    let bits = width.ilog2();
    let two = splat(&montgomery(Scalar::from_u64(2)));
    let (even, odd) = scratch[..2 * width].split_at_mut(width);
    let (first, second) = values.split_at(width);
    for ((even, odd), (first, second)) in even.iter_mut().zip(&mut *odd).zip(first.iter().zip(second)) {
        *even = carry(&multiply(first, second));
        *odd = *even;
    }
    scatter(odd, &INVERSE, 0);
    bit_reverse(odd, bits);
    scatter(odd, &FORWARD, 1);
    for (k, pair) in values.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        *pair = [even[k], shrink(&carry(&subtract_below_2(&odd[reversed(k, bits)], &two)))];
    }
}

/// Lane l of all vectors becomes row l of eight.
#[target_feature(enable = "avx512f,avx512ifma")]
fn lanes_to_rows(values: &[Eight], rows: &mut [Eight]) {
    let row = rows.len() / 8;
    for (at, values) in values.as_chunks::<8>().0.iter().enumerate() {
        for (lane, number) in transpose(*values).iter().enumerate() {
            rows[lane * row + at] = *number;
        }
    }
}

/// [`join`] of two rows.
#[target_feature(enable = "avx512f,avx512ifma")]
fn join_rows(values: &mut [Eight], extender: &mut RowExtender) {
    let row = values.len() / 2;
    let two = splat(&montgomery(Scalar::from_u64(2)));
    let (first, second) = values.split_at_mut(row);
    for ((first, second), source) in first.iter_mut().zip(second).zip(&mut extender.source) {
        *first = carry(&multiply(first, second));
        *source = *first;
    }
    to_odd_points(extender);
    bit_reversed_row(&extender.parity, &mut extender.source, 0);
    // From the end, so that no even value is overwritten before it is read.
    for k in (0..row).rev() {
        let odd = shrink(&carry(&subtract_below_2(&extender.source[k], &two)));
        [values[2 * k], values[2 * k + 1]] = interleave(&values[k], &odd);
    }
}
