//! Sums of many multiples of points (multi-scalar multiplication) for bases that stay, with or without tables.
//!
//! ```text
//!  scalars ─▶ signed digits ─▶ entries sorted by bucket ─▶ bucket sums ─▶ one sum a set ─▶ Horner's rule ─▶ sum
//!             (digits)         (sum)                       (buckets)      (reduce)
//! ```
//!
//! Pippenger's method: a scalar is cut into w digits of c bits, and the point times 2^(c j) for its digit j goes into the
//! bucket of the digit's size, so it costs one sum; what a bucket is worth is multiplied at the end, at two sums a bucket.
//! Without a table, digits of each place have a set of buckets of their own, and sets are joined by doublings. With a
//! table of multiples 2^(c s t) P for t = 0, 1 and so on, s sets are enough, and one if all w multiples are there: fewer
//! buckets to empty, so larger digits, so fewer sums. [`plan`] weighs that. For 32 768 points it gives 0.81 million
//! sums without a table, and 0.59 with all multiples of 16 bits (64 MiB with vectors, 48 MiB else).
//!
//! Points are affine, and many sums share an inversion ([`lanes`]); [`vector`] does eight at a time by AVX-512 IFMA,
//! [`single`] one at a time by `blst`.
//!
//! Nothing here takes the same time for all scalars. They are public data: records and quotients of them.

mod buckets;
mod digits;
mod field;
#[cfg(target_arch = "x86_64")]
mod fp8;
mod lanes;
mod plan;
mod reduce;
mod single;
mod table;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod vector;

use super::{G1, G1Affine, Scalar};
use crate::{CpuLevel, Workers};
use single::Single;
use std::fmt;
use table::Table;
#[cfg(target_arch = "x86_64")]
use vector::Vector;

/// Points that many sums are made of, in the form that the processor likes best.
pub(crate) struct Bases(Form);

enum Form {
    Single(Table<Single>),
    #[cfg(target_arch = "x86_64")]
    Vector(Table<Vector>),
}

/// Calls a method of the table, whichever form it has.
macro_rules! dispatch {
    ($form:expr, $table:ident => $call:expr) => {
        match $form {
            Form::Single($table) => $call,
            #[cfg(target_arch = "x86_64")]
            Form::Vector($table) => $call,
        }
    };
}

impl Bases {
    /// Takes points, without a table yet. Any points of the curve, infinity among them.
    pub(crate) fn new(level: CpuLevel, points: &[G1Affine]) -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(lanes) = Vector::new(level) {
            return Self(Form::Vector(Table::new(lanes, points)));
        }
        let _ = level;
        Self(Form::Single(Table::new(Single, points)))
    }

    /// The same points with the table that makes sums of all of them cheapest and is not larger than this, the points
    /// themselves included.
    pub(crate) fn with_table(&self, budget_bytes: usize, workers: &dyn Workers) -> Self {
        match &self.0 {
            Form::Single(table) => Self(Form::Single(table.extended(budget_bytes, workers))),
            #[cfg(target_arch = "x86_64")]
            Form::Vector(table) => Self(Form::Vector(table.extended(budget_bytes, workers))),
        }
    }

    /// How many points there are.
    pub(crate) fn len(&self) -> usize {
        dispatch!(&self.0, table => table.len())
    }

    /// Memory that points and table take.
    pub(crate) fn size_bytes(&self) -> usize {
        dispatch!(&self.0, table => table.size_bytes())
    }

    /// The sum of `scalars[i]` times point `i`, for as many scalars as there are points at most.
    pub(crate) fn sum(&self, scalars: &[Scalar]) -> G1 {
        dispatch!(&self.0, table => table.sum(scalars))
    }
}

impl fmt::Debug for Bases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bases").field("points", &self.len()).field("bytes", &self.size_bytes()).finish()
    }
}
