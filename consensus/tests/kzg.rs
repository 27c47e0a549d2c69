//! KZG commitments under the insecure setup, and openings of the network. Its vectors are run by `util conformance`.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::scalars;
use consensus::bls::{G1Affine, Scalar, multi_scalar_mul};
use consensus::fft::root_of_unity;
use consensus::kzg::{
    Kzg, KzgError, KzgVerifier, Opening, PARAMETERS_SIZE, PointBytes, Polynomial, TABLE_SIZE_MAX, insecure,
};
use consensus::{CpuLevel, Serial};
use proptest::prelude::*;
use std::sync::LazyLock;

const INFINITY: PointBytes = {
    let mut bytes = [0; 48];
    bytes[0] = 0xc0;
    bytes
};

static INSECURE_PARAMETERS: LazyLock<Vec<u8>> = LazyLock::new(insecure::parameters);
static INSECURE: LazyLock<Kzg> = LazyLock::new(|| Kzg::from_parameters(&INSECURE_PARAMETERS).unwrap());

fn polynomial(seed: &str, count: usize) -> Polynomial {
    Polynomial::from_values(&scalars("scalars254", seed, count)).unwrap()
}

/// Figures of the network for a clone without the vectors: openings need three points only.
#[test]
fn openings_of_the_network() {
    let commitment =
        "a8300c2c30bd4fa5672f5ef957af796ff1b3c2c785486402e9c19df805d5f45b56e39d40ab5a99f19be3f30016128632";
    let value = "0da6711a266fcb0384b5206b1cd08e9ef82c283b1d6d2efd9a0fd26f3ec3ea37";
    let witness =
        "874f4bfb251ce454f2c7c92c1db0f75930789ec246db45c2e2211e25181da93fc9806d26c7e3dc9678ea18b0622d35a3";
    let commitment: PointBytes = hex::decode(commitment).unwrap().try_into().unwrap();
    let value = Scalar::from_bytes(&hex::decode(value).unwrap().try_into().unwrap()).unwrap();
    let witness: PointBytes = hex::decode(witness).unwrap().try_into().unwrap();
    let verifier = KzgVerifier::mainnet();
    assert_eq!(verifier.verify(&commitment, 4, 1, &value, &witness), Ok(true));
    assert_eq!(verifier.verify(&commitment, 8, 2, &value, &witness), Ok(true));
    assert_eq!(verifier.verify(&commitment, 8, 1, &value, &witness), Ok(false));
    assert_eq!(INSECURE.verifier().verify(&commitment, 4, 1, &value, &witness), Ok(false));
}

/// Sums by `blst`, which nothing of a commitment's own way goes through.
fn plain_commitments(polynomials: &[Polynomial]) -> Vec<PointBytes> {
    let (points, _) = INSECURE_PARAMETERS.as_chunks::<48>();
    let powers: Vec<_> = points[..1 << 15].iter().map(|point| G1Affine::from_bytes(point).unwrap()).collect();
    let coefficients = polynomials.iter().map(Polynomial::coefficients);
    coefficients
        .map(|coefficients| multi_scalar_mul(&powers[..coefficients.len()], coefficients).to_bytes())
        .collect()
}

#[test]
fn commitments_are_the_same_at_every_level_and_with_a_table() {
    let edges = [Scalar::ZERO, Scalar::ONE, -Scalar::ONE];
    let with_coefficients = |coefficient: &dyn Fn(usize) -> Scalar, count| {
        Polynomial::from_coefficients((0..count).map(coefficient).collect())
    };
    let polynomials = [
        polynomial("levels", 1 << 15),
        with_coefficients(&|i| edges[i * i % 3], 1 << 15),
        with_coefficients(&|i| if i == 30_000 { Scalar::from_u64(1 << 40) } else { Scalar::ZERO }, 30_001),
        polynomial("levels", 256),
    ];
    let expected = plain_commitments(&polynomials);
    let with_table = INSECURE.with_table(TABLE_SIZE_MAX, &Serial);
    assert!((48 << 20..=TABLE_SIZE_MAX).contains(&with_table.size_bytes()));
    assert_eq!(with_table.id(), INSECURE.id());
    let levels = CpuLevel::available().into_iter();
    let plain = levels.map(|level| Kzg::from_parameters_at(level, &INSECURE_PARAMETERS).unwrap());
    for kzg in plain.chain([with_table]) {
        for (polynomial, expected) in polynomials.iter().zip(&expected) {
            assert_eq!(kzg.commit(polynomial), Ok(*expected), "{kzg:?}");
        }
        assert_eq!(kzg.commit(&Polynomial::from_coefficients(vec![])), Ok(INFINITY));
    }
}

#[test]
fn hostile_points_are_errors() {
    let verifier = KzgVerifier::mainnet();
    for bytes in [[0; 48], [0xff; 48]] {
        let result = verifier.verify(&bytes, 4, 1, &Scalar::ONE, &INFINITY);
        assert_eq!(result, Err(KzgError::InvalidCommitment));
        let result = verifier.verify(&INFINITY, 4, 1, &Scalar::ONE, &bytes);
        assert_eq!(result, Err(KzgError::InvalidWitness));
        let value = Scalar::ONE;
        let opening = Opening { commitment: &INFINITY, num_values: 4, index: 1, value, witness: &bytes };
        assert_eq!(verifier.verify_batch(&[opening]), Err(KzgError::InvalidWitness));
        let opening = Opening { commitment: &bytes, witness: &INFINITY, ..opening };
        assert_eq!(verifier.verify_batch(&[opening]), Err(KzgError::InvalidCommitment));
    }
    let result = verifier.verify(&INFINITY, 4, 4, &Scalar::ONE, &INFINITY);
    assert_eq!(result, Err(KzgError::Index { index: 4, num_values: 4 }));
    // The zero polynomial opens to zero with the witness at infinity, and to nothing else.
    assert_eq!(verifier.verify(&INFINITY, 4, 1, &Scalar::ZERO, &INFINITY), Ok(true));
    assert_eq!(verifier.verify(&INFINITY, 4, 1, &Scalar::ONE, &INFINITY), Ok(false));
}

#[test]
fn insecure_parameters_never_change() {
    assert_eq!(INSECURE_PARAMETERS.len(), PARAMETERS_SIZE);
    assert_eq!(hex::encode(INSECURE.id()), hex::encode(insecure::PARAMETERS_SHA256));
}

#[test]
fn damaged_parameters_are_errors() {
    let found = PARAMETERS_SIZE - 1;
    let result = Kzg::from_parameters(&INSECURE_PARAMETERS[1..]);
    assert_eq!(result.unwrap_err(), KzgError::ParametersLength { found });
    assert_eq!(Kzg::from_parameters(&[]).unwrap_err(), KzgError::ParametersLength { found: 0 });

    let mut damaged = INSECURE_PARAMETERS.clone();
    damaged[2 * 48..3 * 48].fill(0);
    let expected = KzgError::ParametersPoint { group: 1, index: 2 };
    assert_eq!(Kzg::from_parameters(&damaged).unwrap_err(), expected);

    let mut damaged = INSECURE_PARAMETERS.clone();
    damaged[PARAMETERS_SIZE - 1] ^= 1;
    damaged[PARAMETERS_SIZE - 96] = 0;
    let expected = KzgError::ParametersPoint { group: 2, index: 64 };
    assert_eq!(Kzg::from_parameters(&damaged).unwrap_err(), expected);

    let mut swapped = INSECURE_PARAMETERS.clone();
    swapped.copy_within(2 * 48..3 * 48, 48);
    assert_eq!(Kzg::from_parameters(&swapped).unwrap_err(), KzgError::ParametersInconsistent);
}

#[test]
fn long_polynomials_are_refused() {
    let longest = Polynomial::from_coefficients(vec![Scalar::ONE; 32_768]);
    let commitment = INSECURE.commit(&longest).unwrap();
    let witness = INSECURE.witness(&longest, 65_536, 9).unwrap();
    let value = longest.evaluate(root_of_unity(16).pow(9));
    assert_eq!(INSECURE.verifier().verify(&commitment, 65_536, 9, &value, &witness), Ok(true));

    let too_long = Polynomial::from_coefficients(vec![Scalar::ONE; 32_769]);
    let expected = KzgError::PolynomialTooLong { found: 32_769 };
    assert_eq!(INSECURE.commit(&too_long), Err(expected));
    let expected = KzgError::Index { index: 4, num_values: 4 };
    assert_eq!(INSECURE.witness(&longest, 4, 4), Err(expected));
}

#[test]
fn a_batch_is_as_strict_as_its_openings() {
    let polynomials: Vec<_> = (0..4).map(|i| polynomial(&format!("batch/{i}"), 16)).collect();
    let commitments: Vec<_> = polynomials.iter().map(|p| INSECURE.commit(p).unwrap()).collect();
    let places: Vec<_> = (0..40).map(|i| (i % 4, i * 7 % 16)).collect();
    let witnesses: Vec<_> =
        places.iter().map(|(p, index)| INSECURE.witness(&polynomials[*p], 16, *index).unwrap()).collect();
    let openings: Vec<_> = places
        .iter()
        .zip(&witnesses)
        .map(|((p, index), witness)| {
            let value = polynomials[*p].evaluate(root_of_unity(4).pow(*index as u64));
            Opening { commitment: &commitments[*p], num_values: 16, index: *index, value, witness }
        })
        .collect();
    let verifier = INSECURE.verifier();
    for count in [0, 1, 2, 40] {
        assert_eq!(verifier.verify_batch(&openings[..count]), Ok(true), "{count} openings");
    }
    for place in [0, 17, 39] {
        let mut tampered = openings.clone();
        tampered[place].value += Scalar::ONE;
        assert_eq!(verifier.verify_batch(&tampered), Ok(false), "value {place}");
        assert_eq!(verifier.verify_batch(&tampered[place..=place]), Ok(false), "value {place} alone");
        let mut tampered = openings.clone();
        tampered[place].index ^= 1;
        assert_eq!(verifier.verify_batch(&tampered), Ok(false), "index {place}");
        let mut tampered = openings.clone();
        tampered[place].witness = tampered[(place + 1) % 40].witness;
        assert_eq!(verifier.verify_batch(&tampered), Ok(false), "witness {place}");
    }
    // Two errors that cancel out in a plain sum.
    let mut tampered = openings.clone();
    tampered[0].value += Scalar::ONE;
    tampered[1].value -= Scalar::ONE;
    assert_eq!(verifier.verify_batch(&tampered), Ok(false));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn openings_verify_and_others_do_not(seed: u64, log2_count in 0..=6_u32, index: usize, other in 1..255_u64) {
        let count = 1_usize << log2_count;
        let index = index % count;
        let polynomial = polynomial(&seed.to_string(), count);
        let commitment = INSECURE.commit(&polynomial).unwrap();
        let witness = INSECURE.witness(&polynomial, count, index).unwrap();
        let value = polynomial.evaluate(root_of_unity(log2_count).pow(index as u64));
        let verify = |value| INSECURE.verifier().verify(&commitment, count, index, &value, &witness);
        prop_assert_eq!(verify(value), Ok(true));
        prop_assert_eq!(verify(value + Scalar::from_u64(other)), Ok(false));
    }
}
