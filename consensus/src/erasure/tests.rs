//! Extending and recovering, at every level.

use super::*;
use crate::bls::InvalidScalarAt;
use crate::kzg::Polynomial;
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

/// Records and what is just wide enough for rows, with places lacking at random and some to spare.
#[test]
fn every_level_recovers() {
    for (log2_length, threshold) in [(7, 140), (8, 140), (11, 128), (11, 160), (15, 128)] {
        let values = extended(&numbers(9, 1 << log2_length));
        let keys: Vec<_> =
            (0..values.len() as u32).map(|i| blake3::hash(&i.to_le_bytes()).as_bytes()[0]).collect();
        let shards = thin_out(&values, &keys, threshold);
        let present: Vec<_> = shards.iter().map(Option::is_some).collect();
        for level in CpuLevel::available() {
            let mut partial: Vec<_> = shards.iter().map(|shard| shard.unwrap_or_default()).collect();
            Recovery::at_level(level, &present).unwrap().recover(&mut partial).unwrap();
            assert!(partial == values, "{level}: 2^{log2_length} values");
        }
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
