//! From any half of the values to all of them.
//!
//! Let M be n places taken as missing, Z the product of (X - omega^m) over M, P the polynomial
//! sought. D = P Z has degree below 2n, and its values are known at all 2n places: P(x) Z(x) where P is known, zero on M.
//! With the operator (theta F)(X) = X F'(X), theta D = Z theta P + P theta Z, and so P = theta D / theta Z on M.

use super::error::{ErasureError, check_length};
use crate::bls::{Scalar, batch_invert};
use crate::cpu::CpuLevel;
use crate::fft::{InvalidWidth, Kind, derive_times_x, power_of_omega, transform_at};
use crate::field::Ifma;
use crate::kzg::Polynomial;

/// All values from at least half of them, in extended order. Nothing may be missing, too.
pub fn recover(shards: &[Option<Scalar>]) -> Result<Vec<Scalar>, ErasureError> {
    let (recovery, mut values) = prepare(shards)?;
    recovery.recover(&mut values)?;
    Ok(values)
}

/// The polynomial of degree below n through at least n of the 2n values in extended order.
pub fn recover_polynomial(shards: &[Option<Scalar>]) -> Result<Polynomial, ErasureError> {
    let (recovery, mut values) = prepare(shards)?;
    recovery.recover_polynomial(&mut values)
}

/// Recovers any number of value lists that have the same places present.
///
/// Building one costs several times what using it does, for 2^16 places some 0.2 seconds.
#[derive(Debug, Clone)]
pub struct Recovery {
    level: CpuLevel,
    /// What is known of each place in extended order.
    places: Vec<Place>,
    /// Z(omega^i) at used places, 1 / theta Z(omega^i) at the others.
    factors: Vec<Scalar>,
}

/// What is known of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// One of the n values that decide.
    Used,
    /// Not needed, but it must agree.
    Spare,
    Missing,
}

impl Recovery {
    /// Prepares for lists of `present.len()` values of which those marked are there.
    ///
    /// If more than half are there, the first half of the list's length is used and the others are compared with the
    /// outcome.
    pub fn new(present: &[bool]) -> Result<Self, ErasureError> {
        Self::at_level(CpuLevel::current(), present)
    }

    /// [`Self::new`] for work with the instructions of `level`.
    pub fn at_level(level: CpuLevel, present: &[bool]) -> Result<Self, ErasureError> {
        let places = choose_half(present)?;
        let log2_width = places.len().ilog2();
        let unused = (0..places.len()).filter(|place| places[*place] != Place::Used);
        let roots: Vec<_> = unused.map(|place| power_of_omega(log2_width, place)).collect();
        let mut factors = match Ifma::of(level).and_then(|ifma| ifma.vanishing_values(&roots)) {
            Some(values) => values,
            None => vanishing_values(level, &roots)?,
        };
        let mut derived = factors.clone();
        derive_times_x(level, &mut derived)?;
        let mut inverses: Vec<_> = derived
            .into_iter()
            .zip(&places)
            .filter_map(|(value, place)| (*place != Place::Used).then_some(value))
            .collect();
        batch_invert(&mut inverses);
        let unused = factors.iter_mut().zip(&places).filter(|(_, place)| **place != Place::Used);
        for ((factor, _), inverse) in unused.zip(inverses) {
            *factor = inverse;
        }
        Ok(Self { level, places, factors })
    }

    /// What its work is done with.
    pub(crate) fn level(&self) -> CpuLevel {
        self.level
    }

    /// Whether the value at `place` is one of those that decide.
    pub(crate) fn is_used(&self, place: usize) -> bool {
        self.places[place] == Place::Used
    }

    /// Z at used places, 1 / theta Z at the others.
    pub(crate) fn factors(&self) -> &[Scalar] {
        &self.factors
    }

    /// Fills in the missing ones of `values`, in extended order. What stood in their places does not matter.
    ///
    /// On an error the values are of no use.
    pub fn recover(&self, values: &mut [Scalar]) -> Result<(), ErasureError> {
        if values.len() != self.places.len() {
            return Err(ErasureError::LengthMismatch { expected: self.places.len(), found: values.len() });
        }
        let factors = self.places.iter().zip(&self.factors);
        let weighted = factors.clone().zip(values.iter()).map(|((place, factor), value)| match place {
            Place::Used => *value * *factor,
            Place::Spare | Place::Missing => Scalar::ZERO,
        });
        let mut derived: Vec<_> = weighted.collect();
        derive_times_x(self.level, &mut derived)?;
        for (index, ((place, factor), value)) in factors.zip(values).enumerate() {
            match place {
                Place::Used => {}
                Place::Missing => *value = derived[index] * *factor,
                Place::Spare if *value == derived[index] * *factor => {}
                Place::Spare => return Err(ErasureError::Inconsistent { index }),
            }
        }
        Ok(())
    }

    /// The polynomial of degree below n through the present ones of `values`, and the missing values filled in.
    pub fn recover_polynomial(&self, values: &mut [Scalar]) -> Result<Polynomial, ErasureError> {
        self.recover(values)?;
        let source: Vec<_> = values.iter().step_by(2).copied().collect();
        Ok(Polynomial::from_values(&source)?)
    }
}

/// A recovery for these shards and their values, zero where missing.
fn prepare(shards: &[Option<Scalar>]) -> Result<(Recovery, Vec<Scalar>), ErasureError> {
    let present: Vec<_> = shards.iter().map(Option::is_some).collect();
    let values = shards.iter().map(|shard| shard.unwrap_or(Scalar::ZERO)).collect();
    Ok((Recovery::new(&present)?, values))
}

/// The first half of the list's length among the present places decides.
fn choose_half(present: &[bool]) -> Result<Vec<Place>, ErasureError> {
    let needed = present.len() / 2;
    check_length(present.len().div_ceil(2), needed)?;
    let found = present.iter().filter(|present| **present).count();
    if found < needed {
        return Err(ErasureError::TooManyMissing { present: found, needed });
    }
    let mut wanted = needed;
    let mut choose = |present: bool| match (present, wanted) {
        (false, _) => Place::Missing,
        (true, 0) => Place::Spare,
        (true, _) => {
            wanted -= 1;
            Place::Used
        }
    };
    Ok(present.iter().map(|present| choose(*present)).collect())
}

/// Values of the product of (X - root) over n roots at all powers of omega_2n; n must be a power of two.
///
/// A tree of products, see [`join`]; depth first, so that what is joined lies in the nearest cache that it fits into.
fn vanishing_values(level: CpuLevel, roots: &[Scalar]) -> Result<Vec<Scalar>, InvalidWidth> {
    let mut values: Vec<_> =
        roots.iter().flat_map(|root| [Scalar::ONE - *root, -(Scalar::ONE + *root)]).collect();
    let mut odd = Vec::with_capacity(roots.len());
    build(level, &mut values, &mut odd)?;
    Ok(values)
}

/// All levels of a tree.
fn build(level: CpuLevel, values: &mut [Scalar], odd: &mut Vec<Scalar>) -> Result<(), InvalidWidth> {
    if values.len() == 2 {
        return Ok(());
    }
    let (first, second) = values.split_at_mut(values.len() / 2);
    build(level, first, odd)?;
    build(level, second, odd)?;
    join(level, values, odd)
}

/// One level: products of d roots each, kept as their 2d values, become their product, of 4d values.
///
/// Multiplying place by place gives its values at 2d points, the even ones of 4d. At these, X^2d is one, so the values are
/// also those of the product less (X^2d - 1), whose degree is below 2d; it can be taken to the odd points, where
/// X^2d - 1 is minus two.
fn join(level: CpuLevel, values: &mut [Scalar], odd: &mut Vec<Scalar>) -> Result<(), InvalidWidth> {
    let two = Scalar::from_u64(2);
    let width = values.len() / 2;
    let (first, second) = values.split_at_mut(width);
    first.iter_mut().zip(second).for_each(|(a, b)| *a *= *b);
    odd.clear();
    odd.extend_from_slice(first);
    transform_at(level, Kind::OddPoints, odd)?;
    // From the end, so that no even value is overwritten before it is read.
    for place in (0..width).rev() {
        (values[2 * place], values[2 * place + 1]) = (values[place], odd[place] - two);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vanishing_values_are_products() {
        let roots: Vec<_> = (3..11).map(|i| Scalar::from_u64(i).pow(300)).collect();
        for (place, value) in vanishing_values(CpuLevel::current(), &roots).unwrap().into_iter().enumerate() {
            let x = power_of_omega(4, place);
            assert_eq!(value, roots.iter().fold(Scalar::ONE, |product, root| product * (x - *root)));
        }
    }
}
