//! Work along columns: chunks at the same place of many records, eight neighbouring places side by side.

use super::Ifma;
use super::convert::{from_chunks, to_chunks, to_scalars};
use super::eight::{Eight, LIMBS, add, canonical, carry, first_not_canonical, limbs, multiply, splat};
use super::rows::zero;
use super::transform::{bit_reverse, scatter};
use super::twiddles::{FORWARD, INVERSE, montgomery};
use crate::bls::Scalar;
use crate::erasure::{ErasureError, Recovery};
use crate::fft::reversed;
use std::arch::x86_64::*;

/// Limbs of a factor of 128 bits, and of its product with a scalar.
const FACTOR_LIMBS: usize = 3;
const PRODUCT_LIMBS: usize = LIMBS + FACTOR_LIMBS;

/// Products that can be summed limb by limb: each adds at most six times 2^52 to a limb of 64 bits.
const SUMMANDS_MAX: usize = 512;
const _: () = assert!(SUMMANDS_MAX * 6 <= 1 << 12);

impl Ifma {
    /// Extends every column of `source`, whose runs are of scalars and of one length, a multiple of eight. As many runs of parity as of
    /// source: a power of two.
    pub(crate) fn extend_columns(self, source: &[&[[u8; 32]]], parity: &mut [&mut [[u8; 32]]]) {
        assert_eq!(source.len(), parity.len());
        // SAFETY: the token says that the machine has AVX-512 IFMA.
        unsafe { extend_columns(source, parity) };
    }

    /// See [`crate::columns::recover_columns`].
    pub(crate) fn recover_columns(
        self,
        recovery: &Recovery,
        given: &[Option<&[[u8; 32]]>],
        needed: &[usize],
        runs: &mut [&mut [[u8; 32]]],
    ) -> Result<(), ErasureError> {
        // SAFETY: the token says that the machine has AVX-512 IFMA.
        unsafe { recover_columns(recovery, given, needed, runs) }
    }

    /// Sets each of `sums` to the sum over all runs of the factor and the scalar in its place. `sums` and the runs are of one
    /// length, a multiple of eight.
    pub(crate) fn combine(self, factors: &[u128], runs: &[&[[u8; 32]]], sums: &mut [Scalar]) {
        assert_eq!(factors.len(), runs.len());
        sums.fill(Scalar::ZERO);
        for (factors, runs) in factors.chunks(SUMMANDS_MAX).zip(runs.chunks(SUMMANDS_MAX)) {
            // SAFETY: the token says that the machine has AVX-512 IFMA.
            unsafe { add_combined(factors, runs, sums) };
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn extend_columns(source: &[&[[u8; 32]]], parity: &mut [&mut [[u8; 32]]]) {
    let bits = source.len().ilog2();
    let mut numbers = vec![zero(); source.len()];
    for column in 0..source[0].len() / 8 {
        for (number, run) in numbers.iter_mut().zip(source) {
            *number = from_chunks(&run.as_chunks::<8>().0[column]);
            assert_eq!(first_not_canonical(number), None, "chunks of history are scalars");
        }
        scatter(&mut numbers, &INVERSE, 0);
        bit_reverse(&mut numbers, bits);
        scatter(&mut numbers, &FORWARD, 1);
        for (place, number) in numbers.iter().enumerate() {
            parity[reversed(place, bits)].as_chunks_mut::<8>().0[column] = to_chunks(&canonical(number));
        }
    }
}

/// What [`Recovery::recover`] does, for eight columns at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn recover_columns(
    recovery: &Recovery,
    given: &[Option<&[[u8; 32]]>],
    needed: &[usize],
    runs: &mut [&mut [[u8; 32]]],
) -> Result<(), ErasureError> {
    let bits = given.len().ilog2();
    let factors: Vec<_> = recovery.factors().iter().map(|factor| montgomery(*factor)).collect();
    let degrees: Vec<_> = (0..given.len() as u64).map(|k| montgomery(Scalar::from_u64(k))).collect();
    let mut numbers = vec![zero(); given.len()];
    let spare: Vec<_> = (0..given.len())
        .filter_map(|place| given[place].filter(|_| !recovery.is_used(place)).map(|run| (place, run)))
        .collect();
    for column in 0..runs[0].len() / 8 {
        for (place, number) in numbers.iter_mut().enumerate() {
            *number = match given[place] {
                Some(run) if recovery.is_used(place) => {
                    multiply(&from_chunks(&run.as_chunks::<8>().0[column]), &splat(&factors[place]))
                }
                _ => zero(),
            };
        }
        scatter(&mut numbers, &INVERSE, 0);
        bit_reverse(&mut numbers, bits);
        for (number, degree) in numbers.iter_mut().zip(&degrees) {
            *number = multiply(number, &splat(degree));
        }
        scatter(&mut numbers, &FORWARD, 0);
        for (place, run) in &spare {
            let number = multiply(&carry(&numbers[reversed(*place, bits)]), &splat(&factors[*place]));
            if to_chunks(&canonical(&number)) != run.as_chunks::<8>().0[column] {
                return Err(ErasureError::Inconsistent { index: *place });
            }
        }
        for (place, run) in needed.iter().zip(&mut *runs) {
            let number = multiply(&carry(&numbers[reversed(*place, bits)]), &splat(&factors[*place]));
            run.as_chunks_mut::<8>().0[column] = to_chunks(&canonical(&number));
        }
    }
    Ok(())
}

/// Sums products limb by limb, and reduces only the sums.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn add_combined(factors: &[u128], runs: &[&[[u8; 32]]], sums: &mut [Scalar]) {
    let mut totals = vec![[_mm512_setzero_si512(); PRODUCT_LIMBS]; sums.len() / 8];
    for (factor, run) in factors.iter().zip(runs) {
        let factor_limbs = limbs([*factor as u64, (*factor >> 64) as u64, 0, 0]);
        let factor = splat(&factor_limbs);
        for (total, chunks) in totals.iter_mut().zip(run.as_chunks::<8>().0) {
            let number = from_chunks(chunks);
            for i in 0..FACTOR_LIMBS {
                for j in 0..LIMBS {
                    total[i + j] = _mm512_madd52lo_epu64(total[i + j], number.0[j], factor.0[i]);
                    total[i + j + 1] = _mm512_madd52hi_epu64(total[i + j + 1], number.0[j], factor.0[i]);
                }
            }
        }
    }
    for (total, sums) in totals.iter().zip(sums.as_chunks_mut::<8>().0) {
        for (sum, scalar) in sums.iter_mut().zip(to_scalars(&reduced(total))) {
            *sum += scalar;
        }
    }
}

/// A sum of products modulo r, in the form of a [`Scalar`]: 2^256 times the number.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn reduced(total: &[__m512i; PRODUCT_LIMBS]) -> Eight {
    let mask = _mm512_set1_epi64((1 << 52) - 1);
    let mut t = *total;
    for i in 0..PRODUCT_LIMBS - 1 {
        t[i + 1] = _mm512_add_epi64(t[i + 1], _mm512_srli_epi64::<52>(t[i]));
        t[i] = _mm512_and_si512(t[i], mask);
    }
    let zero = _mm512_setzero_si512();
    // The Montgomery product takes 260 bits away from these.
    let two = Scalar::from_u64(2);
    let (low, high) = (splat(&montgomery(two.pow(256))), splat(&montgomery(two.pow(516))));
    let low = multiply(&Eight([t[0], t[1], t[2], t[3], t[4]]), &low);
    let high = multiply(&Eight([t[5], t[6], t[7], zero, zero]), &high);
    canonical(&carry(&add(&low, &high)))
}
