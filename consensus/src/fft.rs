//! Fourier transforms over the scalar field and, for commitments, over G1.
//!
//! A transform of width n evaluates a polynomial of n coefficients at all powers of omega_n, the n-th root of unity of
//! PROTOCOL 2. At the interface everything is in natural order. Inside, a pass either takes natural order to
//! bit-reversed order ([`scatter`]) or back ([`gather`]). Both use one twiddle a block, so that one table serves every
//! width; and going out and back again needs no reordering at all, which is how [`to_odd_points`] works.

use crate::bls::{G1, Scalar};
use crate::cpu::CpuLevel;
use crate::field::Ifma;
use std::sync::LazyLock;
use thiserror::Error;

/// Logarithm of the widest transform: the s-buckets of a record.
pub const LOG2_WIDTH_MAX: u32 = 16;

/// The root of unity of order 2^32, which is 7 to the power of (r - 1) / 2^32; big endian.
const ROOT_OF_UNITY_2_32: [u8; 32] = [
    0x16, 0xa2, 0xa1, 0x9e, 0xdf, 0xe8, 0x1f, 0x20, 0xd0, 0x9b, 0x68, 0x19, 0x22, 0xc8, 0x13, 0xb4, 0xb6,
    0x36, 0x83, 0x50, 0x8c, 0x22, 0x80, 0xb9, 0x38, 0x29, 0x97, 0x1f, 0x43, 0x9f, 0x0d, 0x2b,
];

/// omega_1, omega_2, omega_4 and so on.
static ROOTS: LazyLock<[Scalar; LOG2_WIDTH_MAX as usize + 1]> = LazyLock::new(|| {
    let mut root = Scalar::from_bytes(&ROOT_OF_UNITY_2_32).expect("the constant is below the modulus");
    let mut roots = [Scalar::ONE; LOG2_WIDTH_MAX as usize + 1];
    for log2_width in (0..32_usize).rev() {
        root *= root;
        if let Some(place) = roots.get_mut(log2_width) {
            *place = root;
        }
    }
    roots
});

/// Twiddles of [`twiddles`] for omega.
static FORWARD: LazyLock<Vec<Scalar>> = LazyLock::new(|| twiddles(root_of_unity(LOG2_WIDTH_MAX)));

/// Twiddles of [`twiddles`] for the inverse of omega.
static INVERSE: LazyLock<Vec<Scalar>> =
    LazyLock::new(|| twiddles(root_of_unity(LOG2_WIDTH_MAX).pow((1 << LOG2_WIDTH_MAX) - 1)));

/// 1, 1/2, 1/4 and so on.
static INVERSE_WIDTHS: LazyLock<[Scalar; LOG2_WIDTH_MAX as usize + 1]> = LazyLock::new(|| {
    std::array::from_fn(|log2_width| {
        Scalar::from_u64(1 << log2_width).inverse().expect("a power of two is no multiple of the modulus")
    })
});

/// A width no transform exists for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{width} values: a transform takes a power of two, 65536 at most")]
pub struct InvalidWidth {
    /// Number of values given.
    pub width: usize,
}

/// Which way a transform goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`fft`]
    Values,
    /// [`ifft`]
    Coefficients,
    /// [`to_odd_points`]
    OddPoints,
}

/// What can be transformed: a group on which scalars act.
pub trait Transform: Copy {
    /// Does all of a transform, whose width is a valid one, by instructions that `level` has for it; false if there are none.
    fn transform_at_once(_level: CpuLevel, _kind: Kind, _values: &mut [Self]) -> bool {
        false
    }
    /// `(a, b)` becomes `(a + t b, a - t b)`.
    fn butterfly_time(a: &mut Self, b: &mut Self, twiddle: &Scalar);
    /// `(a, b)` becomes `(a + b, t (a - b))`.
    fn butterfly_frequency(a: &mut Self, b: &mut Self, twiddle: &Scalar);
    /// `(a, b)` becomes `(a + b, a - b)`.
    fn butterfly(a: &mut Self, b: &mut Self);
    /// Multiplies by a scalar.
    fn scale(&mut self, factor: &Scalar);
    /// Multiplies by a scalar and divides by 2^`bits`, a width.
    fn scale_and_halve(&mut self, factor: &Scalar, bits: u32) {
        self.scale(&(*factor * INVERSE_WIDTHS[bits as usize]));
    }
}

impl Transform for Scalar {
    fn transform_at_once(level: CpuLevel, kind: Kind, values: &mut [Self]) -> bool {
        Ifma::of(level).is_some_and(|ifma| match kind {
            Kind::Values => ifma.transform(values, false),
            Kind::Coefficients => ifma.transform(values, true),
            Kind::OddPoints => ifma.to_odd_points(values),
        })
    }

    #[inline]
    fn butterfly_time(a: &mut Self, b: &mut Self, twiddle: &Scalar) {
        Self::butterfly_time(a, b, twiddle);
    }

    #[inline]
    fn butterfly_frequency(a: &mut Self, b: &mut Self, twiddle: &Scalar) {
        Self::butterfly_frequency(a, b, twiddle);
    }

    #[inline]
    fn butterfly(a: &mut Self, b: &mut Self) {
        let difference = *a - *b;
        *a += *b;
        *b = difference;
    }

    #[inline]
    fn scale(&mut self, factor: &Scalar) {
        *self *= *factor;
    }

    #[inline]
    fn scale_and_halve(&mut self, factor: &Scalar, bits: u32) {
        *self *= *factor;
        self.halve(bits);
    }
}

impl Transform for G1 {
    fn butterfly_time(a: &mut Self, b: &mut Self, twiddle: &Scalar) {
        b.scale(twiddle);
        Self::butterfly(a, b);
    }

    fn butterfly_frequency(a: &mut Self, b: &mut Self, twiddle: &Scalar) {
        Self::butterfly(a, b);
        b.scale(twiddle);
    }

    fn butterfly(a: &mut Self, b: &mut Self) {
        (*a, *b) = (*a + *b, *a - *b);
    }

    fn scale(&mut self, factor: &Scalar) {
        *self = *self * *factor;
    }
}

/// omega of the given order 2^`log2_width`.
///
/// # Panics
/// If `log2_width` is above [`LOG2_WIDTH_MAX`].
pub fn root_of_unity(log2_width: u32) -> Scalar {
    ROOTS[log2_width as usize]
}

/// omega of the order 2^`log2_width`, at least 2, to the power of `exponent`, which is below that order.
pub(crate) fn power_of_omega(log2_width: u32, exponent: usize) -> Scalar {
    let half = 1 << (log2_width - 1);
    let power = FORWARD[reversed(exponent % half, log2_width - 1)];
    if exponent < half { power } else { -power }
}

/// Coefficients, lowest first, to values at the powers of omega; in place.
pub fn fft<T: Transform>(values: &mut [T]) -> Result<(), InvalidWidth> {
    transform_at(CpuLevel::current(), Kind::Values, values)
}

/// Values at the powers of omega to coefficients, lowest first; in place.
pub fn ifft<T: Transform>(values: &mut [T]) -> Result<(), InvalidWidth> {
    transform_at(CpuLevel::current(), Kind::Coefficients, values)
}

/// Values of a polynomial of degree below n at the even powers of omega_2n to its values at the odd powers; in place.
///
/// The width n may be 32 768 at most.
pub fn to_odd_points<T: Transform>(values: &mut [T]) -> Result<(), InvalidWidth> {
    transform_at(CpuLevel::current(), Kind::OddPoints, values)
}

/// Any transform, with the instructions of `level`.
pub(crate) fn transform_at<T: Transform>(
    level: CpuLevel,
    kind: Kind,
    values: &mut [T],
) -> Result<(), InvalidWidth> {
    let width = values.len();
    check_width(width)?;
    if kind == Kind::OddPoints && width > 1 << (LOG2_WIDTH_MAX - 1) {
        return Err(InvalidWidth { width });
    }
    if T::transform_at_once(level, kind, values) {
        return Ok(());
    }
    let bits = width.ilog2();
    match kind {
        Kind::Values => {
            reverse_bits(values);
            gather(values, &FORWARD);
        }
        Kind::Coefficients => {
            scatter(values, &INVERSE, 0);
            reverse_bits(values);
            values.iter_mut().for_each(|value| value.scale(&INVERSE_WIDTHS[bits as usize]));
        }
        Kind::OddPoints => {
            scatter(values, &INVERSE, 0);
            // Coefficient k times omega_2n^k moves the polynomial to the odd points. Coefficients are bit-reversed
            // now, and so is the twiddle table.
            for (value, twiddle) in values.iter_mut().zip(FORWARD.iter()) {
                value.scale_and_halve(twiddle, bits);
            }
            gather(values, &FORWARD);
        }
    }
    Ok(())
}

/// Values of a polynomial p at the powers of omega to the values of X p'(X) there: coefficient k is multiplied by k.
pub(crate) fn derive_times_x(level: CpuLevel, values: &mut [Scalar]) -> Result<(), InvalidWidth> {
    check_width(values.len())?;
    if Ifma::of(level).is_some_and(|ifma| ifma.derive_times_x(values)) {
        return Ok(());
    }
    scatter(values, &INVERSE, 0);
    let bits = values.len().ilog2();
    let factor = INVERSE_WIDTHS[bits as usize];
    let mut degree = Scalar::ZERO;
    for k in 0..values.len() {
        values[reversed(k, bits)] *= degree;
        degree += factor;
    }
    gather(values, &FORWARD);
    Ok(())
}

/// omega^reversed(b) for every block b of the widest transform's last stage.
pub(crate) fn forward_twiddles() -> &'static [Scalar] {
    &FORWARD
}

/// The same for the inverse of omega.
pub(crate) fn inverse_twiddles() -> &'static [Scalar] {
    &INVERSE
}

fn check_width(width: usize) -> Result<(), InvalidWidth> {
    if width.is_power_of_two() && width <= 1 << LOG2_WIDTH_MAX { Ok(()) } else { Err(InvalidWidth { width }) }
}

/// Entry b is root^reversed(b), `root` being of the largest order. The first 2^k entries are what k + 1 stages need,
/// whatever the width, since dropping high zero bits of b drops factors of two of the exponent and of the order.
fn twiddles(root: Scalar) -> Vec<Scalar> {
    let bits = LOG2_WIDTH_MAX - 1;
    let mut table = vec![Scalar::ONE; 1 << bits];
    let mut power = Scalar::ONE;
    for exponent in 0..table.len() {
        table[reversed(exponent, bits)] = power;
        power *= root;
    }
    table
}

/// Natural to bit-reversed order: block b of a stage is divided by twiddle b. Depth first, so that blocks stay in the
/// nearest cache that they fit into.
fn scatter<T: Transform>(values: &mut [T], twiddles: &[Scalar], block: usize) {
    if values.len() > 1 {
        let (low, high) = values.split_at_mut(values.len() / 2);
        if block == 0 {
            // The twiddle is one. Skipping the multiplication matters for points.
            low.iter_mut().zip(&mut *high).for_each(|(a, b)| T::butterfly(a, b));
        } else {
            let twiddle = &twiddles[block];
            low.iter_mut().zip(&mut *high).for_each(|(a, b)| T::butterfly_time(a, b, twiddle));
        }
        scatter(low, twiddles, 2 * block);
        scatter(high, twiddles, 2 * block + 1);
    }
}

/// Bit-reversed to natural order: the stages of [`scatter`] backwards. With the inverse twiddles its reverse, but for a
/// factor of n; with the same twiddles, a transform in the other order.
fn gather<T: Transform>(values: &mut [T], twiddles: &[Scalar]) {
    gather_block(values, twiddles, 0);
}

fn gather_block<T: Transform>(values: &mut [T], twiddles: &[Scalar], block: usize) {
    if values.len() > 1 {
        let (low, high) = values.split_at_mut(values.len() / 2);
        gather_block(low, twiddles, 2 * block);
        gather_block(high, twiddles, 2 * block + 1);
        if block == 0 {
            low.iter_mut().zip(high).for_each(|(a, b)| T::butterfly(a, b));
        } else {
            let twiddle = &twiddles[block];
            low.iter_mut().zip(high).for_each(|(a, b)| T::butterfly_frequency(a, b, twiddle));
        }
    }
}

fn reverse_bits<T>(values: &mut [T]) {
    let bits = values.len().ilog2();
    for i in 0..values.len() {
        let j = reversed(i, bits);
        if i < j {
            values.swap(i, j);
        }
    }
}

/// The lowest `bits` bits of `index` in reverse.
pub(crate) fn reversed(index: usize, bits: u32) -> usize {
    if bits == 0 { 0 } else { index.reverse_bits() >> (usize::BITS - bits) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn evaluate(coefficients: &[Scalar], x: Scalar) -> Scalar {
        coefficients.iter().rev().fold(Scalar::ZERO, |sum, coefficient| sum * x + *coefficient)
    }

    fn numbers(seed: u64, count: usize) -> Vec<Scalar> {
        (0..count as u64).map(|i| Scalar::from_u64(seed ^ i << 20).pow(5) - Scalar::from_u64(i)).collect()
    }

    #[test]
    fn roots_have_their_orders() {
        assert_eq!(root_of_unity(0), Scalar::ONE);
        assert_eq!(root_of_unity(1), -Scalar::ONE);
        for log2_width in 1..=LOG2_WIDTH_MAX {
            assert_eq!(root_of_unity(log2_width).pow(1 << (log2_width - 1)), -Scalar::ONE);
        }
        let last = "2155379d12180caa88f39a78f1aeb57867a665ae1fcadc91d7118f85cd96b8ad";
        assert_eq!(hex::encode(root_of_unity(LOG2_WIDTH_MAX).to_bytes()), last);
    }

    #[test]
    fn powers_of_omega() {
        for log2_width in 1..=LOG2_WIDTH_MAX {
            for exponent in [0, 1, (1 << log2_width) / 2, (1 << log2_width) - 1] {
                let expected = root_of_unity(log2_width).pow(exponent as u64);
                assert_eq!(power_of_omega(log2_width, exponent), expected);
            }
        }
    }

    #[test]
    fn fft_evaluates_at_the_powers_of_omega() {
        for log2_width in 0..=6 {
            let coefficients = numbers(3, 1 << log2_width);
            let mut values = coefficients.clone();
            fft(&mut values).unwrap();
            for (i, value) in values.iter().enumerate() {
                assert_eq!(*value, evaluate(&coefficients, root_of_unity(log2_width).pow(i as u64)));
            }
        }
    }

    #[test]
    fn odd_points_and_derivative() {
        for log2_width in 0..=6 {
            let coefficients = numbers(4, 1 << log2_width);
            let mut even = coefficients.clone();
            fft(&mut even).unwrap();
            let mut odd = even.clone();
            to_odd_points(&mut odd).unwrap();
            let omega = root_of_unity(log2_width + 1);
            for (i, value) in odd.iter().enumerate() {
                assert_eq!(*value, evaluate(&coefficients, omega.pow(2 * i as u64 + 1)));
            }
            derive_times_x(CpuLevel::current(), &mut even).unwrap();
            ifft(&mut even).unwrap();
            for (k, (derived, coefficient)) in even.iter().zip(&coefficients).enumerate() {
                assert_eq!(*derived, *coefficient * Scalar::from_u64(k as u64));
            }
        }
    }

    #[test]
    fn points_follow_their_scalars() {
        let scalars = numbers(5, 16);
        let points: Vec<_> = scalars.iter().map(|scalar| G1::generator() * *scalar).collect();
        type Pass =
            (fn(&mut [Scalar]) -> Result<(), InvalidWidth>, fn(&mut [G1]) -> Result<(), InvalidWidth>);
        let passes: [Pass; 3] = [(fft, fft), (ifft, ifft), (to_odd_points, to_odd_points)];
        for (of_scalars, of_points) in passes {
            let (mut scalars, mut points) = (scalars.clone(), points.clone());
            of_scalars(&mut scalars).unwrap();
            of_points(&mut points).unwrap();
            for (scalar, point) in scalars.iter().zip(points) {
                assert_eq!(point, G1::generator() * *scalar);
            }
        }
    }

    /// Widths from below to above where a level begins to work on rows; extreme numbers among random ones.
    #[test]
    fn all_levels_agree() {
        let all_at = |level| {
            (8..=LOG2_WIDTH_MAX).step_by(2).chain([9, LOG2_WIDTH_MAX - 1]).map(move |log2_width| {
                let mut values = numbers(6, 1 << log2_width);
                for i in (0..values.len()).step_by(3) {
                    values[i] = if i % 2 == 0 { -Scalar::ONE } else { Scalar::ZERO };
                }
                let kinds = [Kind::Values, Kind::Coefficients, Kind::OddPoints].map(|kind| {
                    let mut values = values.clone();
                    transform_at(level, kind, &mut values).map(|()| values)
                });
                derive_times_x(level, &mut values).unwrap();
                (kinds, values)
            })
        };
        let [portable, others @ ..] = &CpuLevel::available()[..] else { panic!("portable is always there") };
        for other in others {
            assert!(all_at(*portable).eq(all_at(*other)), "{other}");
        }
    }

    /// Every number is r - 1: none is larger, so no sum of a transform can be.
    #[test]
    fn largest_numbers() {
        for level in CpuLevel::available() {
            let mut values = vec![-Scalar::ONE; 1 << LOG2_WIDTH_MAX];
            transform_at(level, Kind::Values, &mut values).unwrap();
            assert_eq!(values[0], -Scalar::from_u64(1 << LOG2_WIDTH_MAX));
            assert!(values[1..].iter().all(|value| value.is_zero()), "{level}");
        }
    }

    #[test]
    fn odd_widths_are_refused() {
        for width in [0, 3, 6, (1 << LOG2_WIDTH_MAX) + 1, 1 << (LOG2_WIDTH_MAX + 1)] {
            let mut values = vec![Scalar::ONE; width];
            assert_eq!(fft(&mut values), Err(InvalidWidth { width }));
            assert_eq!(ifft(&mut values), Err(InvalidWidth { width }));
            assert_eq!(to_odd_points(&mut values), Err(InvalidWidth { width }));
            assert_eq!(derive_times_x(CpuLevel::current(), &mut values), Err(InvalidWidth { width }));
        }
        let mut values = vec![Scalar::ONE; 1 << LOG2_WIDTH_MAX];
        assert_eq!(to_odd_points(&mut values), Err(InvalidWidth { width: 1 << LOG2_WIDTH_MAX }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn there_and_back(seed: u64, log2_width in 0..=10_u32) {
            let values = numbers(seed, 1 << log2_width);
            let mut transformed = values.clone();
            fft(&mut transformed).unwrap();
            ifft(&mut transformed).unwrap();
            prop_assert_eq!(&transformed, &values);
            ifft(&mut transformed).unwrap();
            fft(&mut transformed).unwrap();
            prop_assert_eq!(transformed, values);
        }

        #[test]
        fn linear(a: u64, b: u64, factor: u64, log2_width in 0..=8_u32) {
            let (x, y) = (numbers(a, 1 << log2_width), numbers(b, 1 << log2_width));
            let factor = Scalar::from_u64(factor);
            let combine = |x: &[Scalar], y: &[Scalar]| -> Vec<_> {
                x.iter().zip(y).map(|(x, y)| *x + factor * *y).collect()
            };
            let mut sum = combine(&x, &y);
            fft(&mut sum).unwrap();
            let (mut x, mut y) = (x, y);
            fft(&mut x).unwrap();
            fft(&mut y).unwrap();
            prop_assert_eq!(sum, combine(&x, &y));
        }
    }
}
