//! The scalar field with AVX-512 IFMA, eight scalars at a time; the other levels work on [`Scalar`](crate::bls::Scalar)s one by one.
//!
//! - `eight`: how eight numbers are kept, and arithmetic on them with stated bounds
//! - `convert`: from bytes and scalars, and back
//! - `twiddles`, `transform`: Fourier transforms, side by side or over a row
//! - `rows`, `columns`, `vanishing`: what erasure coding needs, made of these
//!
//! All of it is reached through an [`Ifma`], which exists only on machines that have the instructions. Results are
//! canonical, so that nobody can tell by which level they were made.

#[cfg(not(target_arch = "x86_64"))]
mod absent;
#[cfg(target_arch = "x86_64")]
mod columns;
#[cfg(target_arch = "x86_64")]
mod convert;
#[cfg(target_arch = "x86_64")]
mod eight;
#[cfg(target_arch = "x86_64")]
mod rows;
#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
#[cfg(target_arch = "x86_64")]
mod transform;
#[cfg(target_arch = "x86_64")]
mod twiddles;
#[cfg(target_arch = "x86_64")]
mod vanishing;

use crate::cpu::CpuLevel;

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use absent::RowExtender;
#[cfg(target_arch = "x86_64")]
pub(crate) use rows::RowExtender;

/// Proof that this machine has AVX-512 with IFMA.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ifma(());

impl Ifma {
    /// If `level` includes it.
    pub(crate) fn of(level: CpuLevel) -> Option<Self> {
        level.has_ifma().then_some(Self(()))
    }
}
