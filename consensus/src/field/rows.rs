//! Transforms of one row of scalars, from memory to memory.
//!
//! A transform is linear, so it does not matter what constant its input is multiplied by: bytes are read as plain numbers and
//! [`Scalar`]s as 2^256 times theirs, and what comes out is of the same kind. Only twiddles are in Montgomery form.

use super::Ifma;
use super::convert::{from_chunks, from_scalars, to_chunks};
use super::eight::{Eight, canonical, carry, first_not_canonical, multiply, splat};
use super::transform::{
    ROW_WIDTH_MIN, bit_reversed_row, for_each_scattered, scatter_row, scattered_to_scalars,
};
use super::twiddles::{FORWARD, INVERSE, Twiddles, montgomery};
use crate::bls::{InvalidScalarAt, Scalar};
use crate::fft::reversed;
use std::arch::x86_64::{_mm512_add_epi64, _mm512_set1_epi64, _mm512_setr_epi64};

/// Extends records without taking memory for each.
#[derive(Debug)]
pub(crate) struct RowExtender {
    pub(super) source: Vec<Eight>,
    pub(super) parity: Vec<Eight>,
}

impl Ifma {
    /// An extender of records of `width` chunks, 512..=32 768; none if there is no such row.
    pub(crate) fn row_extender(self, width: usize) -> Option<RowExtender> {
        let vectors = || vec![zero(); width / 8];
        is_row(width).then(|| RowExtender { source: vectors(), parity: vectors() })
    }

    /// [`crate::fft::fft`] or, `inverse`, [`crate::fft::ifft`] of a row; false if the values are none.
    pub(crate) fn transform(self, values: &mut [Scalar], inverse: bool) -> bool {
        if is_row(values.len()) {
            // SAFETY: the token says that the machine has AVX-512 IFMA.
            unsafe { transform(values, inverse) };
        }
        is_row(values.len())
    }

    /// [`crate::fft::to_odd_points`] of a row; false if the values are none.
    pub(crate) fn to_odd_points(self, values: &mut [Scalar]) -> bool {
        if let Some(mut rows) = self.row_extender(values.len()) {
            // SAFETY: as above.
            unsafe {
                read_scalars(values, &mut rows.source);
                to_odd_points(&mut rows);
                scattered_to_scalars(&rows.parity, 0, values);
            }
        }
        is_row(values.len())
    }

    /// `derive_times_x` of [`crate::fft`] of a row; false if the values are none.
    pub(crate) fn derive_times_x(self, values: &mut [Scalar]) -> bool {
        if is_row(values.len()) {
            // SAFETY: as above.
            unsafe { derive_times_x(values) };
        }
        is_row(values.len())
    }
}

impl RowExtender {
    /// [`crate::erasure::extend_record`] for the width it was made for. If a chunk is no scalar, nothing is written.
    pub(crate) fn extend(
        &mut self,
        record: &[[u8; 32]],
        parity: &mut [[u8; 32]],
    ) -> Result<(), InvalidScalarAt> {
        assert!(record.len() == 8 * self.source.len() && parity.len() == record.len(), "the width chosen");
        // SAFETY: a RowExtender is made by a token of AVX-512 IFMA.
        unsafe { extend(self, record, parity) }
    }
}

fn is_row(width: usize) -> bool {
    width.is_power_of_two() && width >= ROW_WIDTH_MIN
}

/// Eight zeros.
pub(super) fn zero() -> Eight {
    // SAFETY: only tokens of AVX-512 IFMA lead here.
    unsafe { splat(&[0; 5]) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn extend(
    rows: &mut RowExtender,
    record: &[[u8; 32]],
    parity: &mut [[u8; 32]],
) -> Result<(), InvalidScalarAt> {
    for (place, (number, chunks)) in rows.source.iter_mut().zip(record.as_chunks::<8>().0).enumerate() {
        *number = from_chunks(chunks);
        if let Some(lane) = first_not_canonical(number) {
            return Err(InvalidScalarAt { index: 8 * place + lane });
        }
    }
    to_odd_points(rows);
    let eighth = rows.parity.len() / 8;
    for_each_scattered!(rows.parity, |place, number| {
        for (g, chunk) in to_chunks(&canonical(number)).into_iter().enumerate() {
            parity[place + reversed(g, 3) * eighth] = chunk;
        }
    });
    Ok(())
}

/// `source`, a row of numbers below 3, to the scattered row `parity`.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn to_odd_points(rows: &mut RowExtender) {
    let RowExtender { source, parity } = rows;
    scatter_row(source, &INVERSE, 0);
    bit_reversed_row(source, parity, (8 * source.len()).ilog2());
    scatter_row(parity, &FORWARD, 1);
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn transform(values: &mut [Scalar], inverse: bool) {
    let mut row = vec![zero(); values.len() / 8];
    read_scalars(values, &mut row);
    let twiddles: &Twiddles = if inverse { &INVERSE } else { &FORWARD };
    scatter_row(&mut row, twiddles, 0);
    scattered_to_scalars(&row, if inverse { values.len().ilog2() } else { 0 }, values);
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn derive_times_x(values: &mut [Scalar]) {
    let mut row = vec![zero(); values.len() / 8];
    let mut coefficients = row.clone();
    read_scalars(values, &mut row);
    scatter_row(&mut row, &INVERSE, 0);
    bit_reversed_row(&row, &mut coefficients, values.len().ilog2());
    // Two Montgomery products: the first, by the plain degree, leaves a factor of 2^-260 to the second.
    let restore = splat(&montgomery(Scalar::from_u64(2).pow(260)));
    let mut degrees = zero();
    degrees.0[0] = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    for coefficient in &mut coefficients {
        *coefficient = multiply(&carry(&multiply(coefficient, &degrees)), &restore);
        degrees.0[0] = _mm512_add_epi64(degrees.0[0], _mm512_set1_epi64(8));
    }
    scatter_row(&mut coefficients, &FORWARD, 0);
    scattered_to_scalars(&coefficients, 0, values);
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn read_scalars(scalars: &[Scalar], row: &mut [Eight]) {
    for (number, scalars) in row.iter_mut().zip(scalars.as_chunks::<8>().0) {
        *number = from_scalars(scalars);
    }
}
