//! Erasure coding: n values become 2n, and any n of these give back all (PROTOCOL 2).
//!
//! The n source values are those of a polynomial of degree below n at the even powers of omega_2n, the parity values
//! those at the odd powers. "Extended order" is the order of the powers: source 0, parity 0, source 1, parity 1, ...
//!
//! How [`Recovery`] works: let M be n places taken as missing, Z the product of (X - omega^m) over M, P the polynomial
//! sought. D = P Z has degree below 2n, and its values are known at all 2n places: P(x) Z(x) where P is known, zero on M.
//! With the operator (theta F)(X) = X F'(X), theta D = Z theta P + P theta Z, and so P = theta D / theta Z on M.

use crate::bls::{
    G1, InvalidScalarAt, PointBytes, Scalar, batch_invert, scalars_from_bytes, scalars_to_bytes,
};
use crate::cpu::CpuLevel;
use crate::fft::{
    InvalidWidth, Kind, LOG2_WIDTH_MAX, derive_times_x, root_of_unity, to_odd_points, transform_at,
};
use crate::field::{Ifma, RowExtender};
use crate::kzg::Polynomial;
use thiserror::Error;

/// The most source values: the chunks of a record.
const SOURCE_LENGTH_MAX: usize = 1 << (LOG2_WIDTH_MAX - 1);

/// Why values could not be extended or recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ErasureError {
    /// No values given.
    #[error("there are no values to extend or recover")]
    Empty,
    /// The number of values is not a power of two.
    #[error("{length} values: their number must be a power of two")]
    NotPowerOfTwo {
        /// Number of values given.
        length: usize,
    },
    /// More values than a record has chunks.
    #[error("{length} source values: at most 32768 are possible")]
    TooLong {
        /// Number of source values given.
        length: usize,
    },
    /// Two lists that belong together differ in length.
    #[error("{found} values where {expected} are needed")]
    LengthMismatch {
        /// Length needed.
        expected: usize,
        /// Length given.
        found: usize,
    },
    /// Fewer than half of the values are there.
    #[error(
        "impossible to recover, too many shards are missing: {present} of the {needed} needed are present"
    )]
    TooManyMissing {
        /// Values present.
        present: usize,
        /// Values needed.
        needed: usize,
    },
    /// More than half of the values are there, but they are not of one polynomial.
    #[error("shards contradict each other at place {index} of the extended order; some of them are corrupt")]
    Inconsistent {
        /// A place whose value differs from what the others say. It need not be the corrupt one.
        index: usize,
    },
    /// A chunk is not a scalar.
    #[error(transparent)]
    InvalidScalar(#[from] InvalidScalarAt),
    /// A commitment is not a curve point.
    #[error("commitment {index} is not a point of the curve")]
    InvalidCommitment {
        /// Position in the list given.
        index: usize,
    },
}

impl From<InvalidWidth> for ErasureError {
    fn from(InvalidWidth { width }: InvalidWidth) -> Self {
        match width {
            0 => Self::Empty,
            length if !length.is_power_of_two() => Self::NotPowerOfTwo { length },
            length => Self::TooLong { length },
        }
    }
}

/// Writes the parity values of `source`. Both slices have the same length: a power of two, 32 768 at most.
pub fn extend(source: &[Scalar], parity: &mut [Scalar]) -> Result<(), ErasureError> {
    check_length(source.len(), parity.len())?;
    parity.copy_from_slice(source);
    Ok(to_odd_points(parity)?)
}

/// [`extend`] for the chunks of a record, 32 big-endian bytes each; any chunk of r or more is refused. Who extends many
/// records makes an [`Extender`].
pub fn extend_record(record: &[[u8; 32]], parity: &mut [[u8; 32]]) -> Result<(), ErasureError> {
    Extender::new(CpuLevel::current(), record.len())?.extend_record(record, parity)
}

/// Extends records of one width, one after another; its memory (up to 2.6 MB) is allocated once.
#[derive(Debug)]
pub struct Extender {
    /// Chunks of a record.
    length: usize,
    memory: Memory,
}

/// What a level works in.
#[derive(Debug)]
enum Memory {
    Row(RowExtender),
    Scalars(CpuLevel, Vec<Scalar>),
}

impl Extender {
    /// For records of `length` chunks, a power of two, 32 768 at most, with the instructions of `level`.
    pub fn new(level: CpuLevel, length: usize) -> Result<Self, ErasureError> {
        check_length(length, length)?;
        let row = Ifma::of(level).and_then(|ifma| ifma.row_extender(length));
        let memory = row.map_or_else(|| Memory::Scalars(level, vec![Scalar::ZERO; length]), Memory::Row);
        Ok(Self { length, memory })
    }

    /// Writes the parity chunks of `record`, 32 big-endian bytes each; any chunk of r or more is refused.
    pub fn extend_record(
        &mut self,
        record: &[[u8; 32]],
        parity: &mut [[u8; 32]],
    ) -> Result<(), ErasureError> {
        for found in [record.len(), parity.len()] {
            if found != self.length {
                return Err(ErasureError::LengthMismatch { expected: self.length, found });
            }
        }
        match &mut self.memory {
            Memory::Row(row) => row.extend(record, parity).map_err(ErasureError::from),
            Memory::Scalars(level, scalars) => {
                scalars_from_bytes(record, scalars)?;
                transform_at(*level, Kind::OddPoints, scalars)?;
                scalars_to_bytes(scalars, parity);
                Ok(())
            }
        }
    }
}

/// Commitments of source records to those of all records, in extended order. The group's own transform gives exactly
/// what committing to each parity record would.
pub fn extend_commitments(source: &[PointBytes]) -> Result<Vec<PointBytes>, ErasureError> {
    check_length(source.len(), source.len())?;
    let decode =
        |(index, bytes)| G1::from_bytes(bytes).map_err(|_| ErasureError::InvalidCommitment { index });
    let mut points = source.iter().enumerate().map(decode).collect::<Result<Vec<_>, _>>()?;
    to_odd_points(&mut points)?;
    Ok(source.iter().zip(points).flat_map(|(source, parity)| [*source, parity.to_bytes()]).collect())
}

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
        let places = choose_half(present)?;
        let log2_width = places.len().ilog2();
        let omega = root_of_unity(log2_width);
        let powers = std::iter::successors(Some(Scalar::ONE), |power| Some(*power * omega));
        let unused = powers.zip(&places).filter(|(_, place)| **place != Place::Used);
        let mut factors = vanishing_values(unused.map(|(root, _)| root).collect())?;
        let mut derived = factors.clone();
        derive_times_x(CpuLevel::current(), &mut derived)?;
        batch_invert(&mut derived);
        for ((factor, inverse), place) in factors.iter_mut().zip(derived).zip(&places) {
            if *place != Place::Used {
                *factor = inverse;
            }
        }
        Ok(Self { places, factors })
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
        derive_times_x(CpuLevel::current(), &mut derived)?;
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
/// A tree of products: a product of d roots is kept as its 2d values. Multiplying two place by place gives the product
/// of 2d roots at 2d points, the even ones of 4d. At these, X^2d is one, so the values are also those of the product
/// less (X^2d - 1), whose degree is below 2d; it can be taken to the odd points, where X^2d - 1 is minus two.
fn vanishing_values(roots: Vec<Scalar>) -> Result<Vec<Scalar>, InvalidWidth> {
    let two = Scalar::from_u64(2);
    let count = roots.len();
    let mut values: Vec<_> =
        roots.into_iter().flat_map(|root| [Scalar::ONE - root, -(Scalar::ONE + root)]).collect();
    let (mut even, mut odd) = (Vec::new(), Vec::new());
    let mut degree = 1;
    while degree < count {
        let width = 2 * degree;
        for pair in values.chunks_exact_mut(2 * width) {
            let (first, second) = pair.split_at(width);
            even.clear();
            even.extend(first.iter().zip(second).map(|(a, b)| *a * *b));
            odd.clone_from(&even);
            to_odd_points(&mut odd)?;
            for (place, (even, odd)) in pair.as_chunks_mut::<2>().0.iter_mut().zip(even.iter().zip(&odd)) {
                *place = [*even, *odd - two];
            }
        }
        degree = width;
    }
    Ok(values)
}

fn check_length(source: usize, parity: usize) -> Result<(), ErasureError> {
    if source == 0 {
        Err(ErasureError::Empty)
    } else if !source.is_power_of_two() {
        Err(ErasureError::NotPowerOfTwo { length: source })
    } else if source > SOURCE_LENGTH_MAX {
        Err(ErasureError::TooLong { length: source })
    } else if source != parity {
        Err(ErasureError::LengthMismatch { expected: source, found: parity })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(seed: u64, count: usize) -> Vec<Scalar> {
        (0..count as u64).map(|i| Scalar::from_u64(seed ^ i << 32).pow(5) - Scalar::from_u64(i)).collect()
    }

    fn extended(source: &[Scalar]) -> Vec<Scalar> {
        let mut parity = vec![Scalar::ZERO; source.len()];
        extend(source, &mut parity).unwrap();
        source.iter().zip(parity).flat_map(|(source, parity)| [*source, parity]).collect()
    }

    /// Keeps every value whose random number is small, and then the first ones until half are kept.
    fn thin_out(values: &[Scalar], keys: &[u8], threshold: u8) -> Vec<Option<Scalar>> {
        let mut shards: Vec<_> =
            values.iter().zip(keys).map(|(value, key)| (*key < threshold).then_some(*value)).collect();
        let mut lacking = (values.len() / 2).saturating_sub(shards.iter().flatten().count());
        for (shard, value) in shards.iter_mut().zip(values) {
            if shard.is_none() && lacking > 0 {
                *shard = Some(*value);
                lacking -= 1;
            }
        }
        shards
    }

    #[test]
    fn two_values_of_the_network() {
        let hex_bytes = |text: &str| -> [u8; 32] { hex::decode(text).unwrap().try_into().unwrap() };
        let record = [
            "00e12b1daed134b4d6efba4c407f63eb95e411dd5c5b15753ebd9d19254123a4",
            "00080a1907034c2553e5399a71e8f838dedc1bea6dad579481ad63df4c873b99",
        ]
        .map(hex_bytes);
        let expected = [
            "3e51d091bba76f1aa0adce5f78014063a24d6e3b2f163530cd46071272929ba3",
            "36850bf823ca8f07bd60fd8f4408f3c62630638f9af093d7f324f9e4ff35c39b",
        ]
        .map(hex_bytes);
        let mut parity = [[0; 32]; 2];
        extend_record(&record, &mut parity).unwrap();
        assert_eq!(parity, expected);
    }

    #[test]
    fn one_value_is_its_own_parity() {
        assert_eq!(extended(&[Scalar::from_u64(9)]), [Scalar::from_u64(9); 2]);
        assert_eq!(recover(&[None, Some(Scalar::from_u64(9))]), Ok(vec![Scalar::from_u64(9); 2]));
    }

    #[test]
    fn wrong_lengths_are_errors() {
        let extend_lengths =
            |source, parity| extend(&vec![Scalar::ONE; source], &mut vec![Scalar::ZERO; parity]).unwrap_err();
        assert_eq!(extend_lengths(0, 0), ErasureError::Empty);
        assert_eq!(extend_lengths(3, 3), ErasureError::NotPowerOfTwo { length: 3 });
        assert_eq!(extend_lengths(65_536, 65_536), ErasureError::TooLong { length: 65_536 });
        assert_eq!(extend_lengths(4, 2), ErasureError::LengthMismatch { expected: 4, found: 2 });
        assert_eq!(extend_record(&[], &mut []), Err(ErasureError::Empty));
        assert_eq!(extend_commitments(&[]), Err(ErasureError::Empty));
        assert_eq!(extend_commitments(&[[0; 48]]), Err(ErasureError::InvalidCommitment { index: 0 }));

        assert_eq!(recover(&[]), Err(ErasureError::Empty));
        let expected = ErasureError::LengthMismatch { expected: 1, found: 0 };
        assert_eq!(recover(&[Some(Scalar::ONE)]), Err(expected));
        assert_eq!(recover(&[None; 6]), Err(ErasureError::NotPowerOfTwo { length: 3 }));
        assert_eq!(recover(&vec![None; 131_072]), Err(ErasureError::TooLong { length: 65_536 }));
    }

    #[test]
    fn bad_chunk_is_named() {
        let record = [[1; 32], [0xff; 32]];
        let expected = ErasureError::InvalidScalar(InvalidScalarAt { index: 1 });
        assert_eq!(extend_record(&record, &mut [[0; 32]; 2]), Err(expected));
    }

    #[test]
    fn one_more_missing_is_too_many() {
        let values = extended(&numbers(1, 8));
        let mut shards: Vec<_> = values.iter().copied().map(Some).collect();
        shards[..8].fill(None);
        assert_eq!(recover(&shards).as_ref(), Ok(&values));
        shards[8] = None;
        let error = recover(&shards).unwrap_err();
        assert_eq!(error, ErasureError::TooManyMissing { present: 7, needed: 8 });
        assert!(error.to_string().contains("too many shards are missing"));
        assert_eq!(recover_polynomial(&shards), Err(error));
    }

    #[test]
    fn contradictions_are_found() {
        let mut shards: Vec<_> = extended(&numbers(2, 8)).into_iter().map(Some).collect();
        shards[3] = None;
        for place in [0, 12] {
            let mut corrupt = shards.clone();
            corrupt[place] = Some(Scalar::ONE);
            assert!(matches!(recover(&corrupt), Err(ErasureError::Inconsistent { .. })), "{place}");
        }
    }

    #[test]
    fn recovery_wants_its_own_length() {
        let recovery = Recovery::new(&[true; 8]).unwrap();
        let error = recovery.recover(&mut [Scalar::ZERO; 4]).unwrap_err();
        assert_eq!(error, ErasureError::LengthMismatch { expected: 8, found: 4 });
    }

    #[test]
    fn vanishing_values_are_products() {
        let roots = numbers(3, 8);
        for (place, value) in vanishing_values(roots.clone()).unwrap().into_iter().enumerate() {
            let x = root_of_unity(4).pow(place as u64);
            assert_eq!(value, roots.iter().fold(Scalar::ONE, |product, root| product * (x - *root)));
        }
    }

    /// What each level makes of records from one to all chunks, against the scalars one by one.
    #[test]
    fn every_level_extends_records() {
        for log2_length in [0, 1, 5, 8, 9, 10, 13, 15] {
            let mut source = numbers(8, 1 << log2_length);
            source[0] = -Scalar::ONE;
            let record: Vec<_> = source.iter().map(|scalar| scalar.to_bytes()).collect();
            let mut expected = source.clone();
            let portable = CpuLevel::available()[0];
            transform_at(portable, Kind::OddPoints, &mut expected).unwrap();
            let expected: Vec<_> = expected.into_iter().map(Scalar::to_bytes).collect();
            for level in CpuLevel::available() {
                let mut extender = Extender::new(level, record.len()).unwrap();
                let mut parity = vec![[0; 32]; record.len()];
                for _ in 0..2 {
                    extender.extend_record(&record, &mut parity).unwrap();
                    assert!(parity == expected, "{level}: 2^{log2_length} chunks");
                }
                let mut bad = record.clone();
                *bad.last_mut().unwrap() = [0xff; 32];
                let index = bad.len() - 1;
                let error = ErasureError::InvalidScalar(InvalidScalarAt { index });
                assert_eq!(extender.extend_record(&bad, &mut parity), Err(error), "{level}");
                assert!(matches!(
                    extender.extend_record(&record, &mut []),
                    Err(ErasureError::LengthMismatch { .. })
                ));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_half_recovers_all(
            seed: u64,
            log2_length in 0..=7_u32,
            threshold: u8,
            keys in proptest::collection::vec(any::<u8>(), 256),
        ) {
            let source = numbers(seed, 1 << log2_length);
            let values = extended(&source);
            let shards = thin_out(&values, &keys, threshold);
            prop_assert_eq!(&recover(&shards).unwrap(), &values);
            prop_assert_eq!(recover_polynomial(&shards).unwrap(), Polynomial::from_values(&source).unwrap());
        }

        #[test]
        fn one_recovery_serves_many(seeds: [u64; 4], keys in proptest::collection::vec(any::<u8>(), 32)) {
            let marks = thin_out(&[Scalar::ONE; 32], &keys, 160);
            let recovery = Recovery::new(&marks.iter().map(Option::is_some).collect::<Vec<_>>()).unwrap();
            for seed in seeds {
                let source = numbers(seed, 16);
                let values = extended(&source);
                let mut partial: Vec<_> = values.iter().zip(&marks)
                    .map(|(value, mark)| if mark.is_some() { *value } else { Scalar::from_u64(seed) })
                    .collect();
                let polynomial = recovery.recover_polynomial(&mut partial).unwrap();
                prop_assert_eq!(&partial, &values);
                prop_assert_eq!(polynomial, Polynomial::from_values(&source).unwrap());
            }
        }

        #[test]
        fn extending_is_linear(a: u64, b: u64, factor: u64) {
            let (x, y, factor) = (numbers(a, 32), numbers(b, 32), Scalar::from_u64(factor));
            let combine = |x: &[Scalar], y: &[Scalar]| -> Vec<_> {
                x.iter().zip(y).map(|(x, y)| *x + factor * *y).collect()
            };
            prop_assert_eq!(extended(&combine(&x, &y)), combine(&extended(&x), &extended(&y)));
        }
    }
}
