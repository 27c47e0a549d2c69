//! The instruction set levels that hot loops are written for, behind one trait, with a portable twin.
//!
//! The loops themselves are functions compiled for their level ([`lanes`], [`rows`]); generic code picks them by `S: Simd`. A
//! level's intrinsics are called from nowhere else: in a function that is not compiled for the level they would be calls.

use crate::lanes::{self, Lanes};
use crate::pos::rows::{self, RowWindow, Windows};

/// What a level offers.
pub(crate) trait Simd {
    /// Inputs that [`Self::compress`] takes at a time, at most [`lanes::MAX_LANES`].
    const LANES: usize;

    /// See [`lanes`].
    ///
    /// # Safety
    /// The processor has this level's instruction set.
    unsafe fn compress<const N: usize>(parameters: &lanes::Parameters, message: &[Lanes; N]) -> [Lanes; 4];

    /// See [`rows`].
    ///
    /// # Safety
    /// The processor has this level's instruction set.
    unsafe fn row_hits(left: u128, low: &RowWindow, high: &RowWindow, windows: &Windows) -> u64;
}

/// Plain code for any processor.
pub(crate) struct Portable;

impl Simd for Portable {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn compress<const N: usize>(parameters: &lanes::Parameters, message: &[Lanes; N]) -> [Lanes; 4] {
        lanes::compress_portable(parameters, message)
    }

    #[inline(always)]
    unsafe fn row_hits(left: u128, low: &RowWindow, high: &RowWindow, windows: &Windows) -> u64 {
        rows::row_hits_portable(left, low, high, windows)
    }
}

/// Implements a level by its functions.
#[cfg(target_arch = "x86_64")]
macro_rules! x86_level {
    ($level:ident, $doc:literal, $lanes:literal, $compress:ident, $row_hits:ident) => {
        #[doc = $doc]
        pub(crate) struct $level;

        impl Simd for $level {
            const LANES: usize = $lanes;

            #[inline(always)]
            unsafe fn compress<const N: usize>(
                parameters: &lanes::Parameters,
                message: &[Lanes; N],
            ) -> [Lanes; 4] {
                // SAFETY: promised by the caller.
                unsafe { lanes::$compress(parameters, message) }
            }

            #[inline(always)]
            unsafe fn row_hits(left: u128, low: &RowWindow, high: &RowWindow, windows: &Windows) -> u64 {
                // SAFETY: promised by the caller.
                unsafe { rows::$row_hits(left, low, high, windows) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
x86_level!(Avx2, "256-bit vectors.", 8, compress_avx2, row_hits_avx2);
#[cfg(target_arch = "x86_64")]
x86_level!(Avx512, "512-bit vectors.", 16, compress_avx512, row_hits_avx512);
