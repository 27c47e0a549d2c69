//! kzg.json: parameters, commitments, witnesses and their verification.

use super::context::Context;
use super::erasure::{scalars_of, serialised};
use super::json::{Check, array, digest, equal, flag, list, member, size, text};
use super::report::Report;
use consensus::bls::{G1Affine, Scalar};
use consensus::fft::root_of_unity;
use consensus::kzg::{Kzg, KzgVerifier, PARAMETERS_SIZE, PointBytes, Polynomial, hash_to_scalar};
use serde_json::Value;

pub(super) fn run(vectors: &Value, context: &Context, report: &mut Report) {
    report.case("kzg parameters", || check_parameters(member(vectors, "params")?, context.kzg()?));
    report.each("kzg", vectors, "vectors", |case| check_polynomial(case, context.kzg()?));
    report.case("kzg edge cases", || check_edge_cases(member(vectors, "edge_cases")?, context.kzg()?));
    report.each("kzg", vectors, "hash_to_scalar", |case| {
        let scalar = hash_to_scalar(&array(case, "input48")?);
        equal("scalar", scalar.to_bytes(), array(case, "scalar")?)
    });
}

fn check_parameters(case: &Value, kzg: &Kzg) -> Check {
    equal("length", PARAMETERS_SIZE, size(case, "len")?)?;
    equal("sha256", *kzg.id(), array(case, "sha256")?)?;
    equal("points of the verifier", *kzg.verifier(), KzgVerifier::mainnet())?;
    for (degree, name) in [(0, "g1_0"), (1, "g1_1"), (32_767, "g1_last")] {
        let mut coefficients = vec![Scalar::ZERO; degree + 1];
        coefficients[degree] = Scalar::ONE;
        let commitment = kzg.commit(&Polynomial::from_coefficients(coefficients));
        equal(name, commitment, Ok(array(case, name)?))?;
    }
    Ok(())
}

fn check_polynomial(case: &Value, kzg: &Kzg) -> Check {
    let polynomial = Polynomial::from_values(&scalars_of(case)?).map_err(|error| error.to_string())?;
    let name = text(case, "name")?;
    digest(name, &serialised(polynomial.coefficients()), member(case, "poly_coeffs")?)?;
    let commitment = kzg.commit(&polynomial).map_err(|error| error.to_string())?;
    equal("commitment", commitment, array(case, "commitment")?)?;
    for (i, witness) in list(case, "witnesses")?.iter().enumerate() {
        check_witness(witness, kzg, &polynomial, &commitment)
            .map_err(|error| format!("witness {i}: {error}"))?;
    }
    Ok(())
}

fn check_witness(case: &Value, kzg: &Kzg, polynomial: &Polynomial, commitment: &PointBytes) -> Check {
    let (num_values, index) = (size(case, "num_values")?, size(case, "index")?);
    let width = num_values.next_power_of_two();
    if width > 1 << 16 || index >= width {
        return Err(format!("no value {index} of {num_values}"));
    }
    let value_at = |index: usize| polynomial.evaluate(root_of_unity(width.ilog2()).pow(index as u64));
    let value = value_at(index);
    equal("value", value.to_bytes(), array(case, "value")?)?;
    let witness = kzg.witness(polynomial, num_values, index).map_err(|error| error.to_string())?;
    equal("witness", witness, array(case, "witness")?)?;
    let verify =
        |index, value| kzg.verifier().verify(commitment, num_values, index, &value, &witness) == Ok(true);
    equal("verify", verify(index, value), flag(case, "verify")?)?;
    let key = "verify_wrong_value(value of index+1 mod width)";
    equal(key, verify(index, value_at((index + 1) % width)), flag(case, key)?)?;
    let key = "verify_wrong_index(index xor 1)";
    equal(key, verify(index ^ 1, value), flag(case, key)?)
}

/// What the vectors call `Ok("…")`, `Err("…")`.
fn debug_result<T: AsRef<[u8]>, E>(result: Result<T, E>, error: &str) -> String {
    match result {
        Ok(bytes) => format!("Ok(\"{}\")", hex::encode(bytes)),
        Err(_) => format!("Err(\"{error}\")"),
    }
}

fn check_edge_cases(case: &Value, kzg: &Kzg) -> Check {
    let of = |value| Polynomial::from_values(&[value; 4]).map_err(|error| error.to_string());
    let (zero, ones) = (of(Scalar::ZERO)?, of(Scalar::ONE)?);
    let key = "zero_poly_commitment";
    equal(key, kzg.commit(&zero), Ok(array(case, key)?))?;
    let key = "all_ones_commitment(=G1 generator)";
    let commitment = array(case, key)?;
    equal(key, kzg.commit(&ones), Ok(commitment))?;
    let witness = array(case, "all_ones_witness")?;
    equal("all_ones_witness", kzg.witness(&ones, 4, 1), Ok(witness))?;
    let verdict = kzg.verifier().verify(&commitment, 4, 1, &Scalar::ONE, &witness);
    equal("all_ones_verify", verdict, Ok(flag(case, "all_ones_verify")?))?;
    let mut infinity = [0; 48];
    infinity[0] = 0xc0;
    for (key, bytes) in [
        ("commitment_from_48_zero_bytes", [0; 48]),
        ("commitment_from_48_ff_bytes", [0xff; 48]),
        ("commitment_from_c0_then_zeros", infinity),
    ] {
        let found = G1Affine::from_bytes(&bytes).map(G1Affine::to_bytes);
        equal(key, debug_result(found, "Failed to uncompress").as_str(), text(case, key)?)?;
    }
    let mut modulus = (-Scalar::ONE).to_bytes();
    let largest = Scalar::from_bytes(&modulus).map(Scalar::to_bytes);
    equal(
        "scalar_from_modulus_minus_1",
        debug_result(largest, "").as_str(),
        text(case, "scalar_from_modulus_minus_1")?,
    )?;
    modulus[31] += 1;
    let refused = Scalar::from_bytes(&modulus).map(Scalar::to_bytes);
    equal(
        "scalar_from_modulus",
        debug_result(refused, "Invalid scalar").as_str(),
        text(case, "scalar_from_modulus")?,
    )
}
