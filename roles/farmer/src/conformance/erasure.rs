//! erasure.json: roots, extension, recovery, commitments of parity records.

use super::backend::{self, KernelDevice};
use super::context::Context;
use super::json::{
    Check, array, array_of, digest, equal, hash_equal, list, number, number_of, optional, size, text,
};
use super::report::Report;
use consensus::bls::Scalar;
use consensus::erasure::{extend, extend_commitments, recover, recover_polynomial};
use consensus::fft::root_of_unity;
use consensus::kzg::Polynomial;
use serde_json::Value;

pub(super) fn run(vectors: &Value, context: &Context, report: &mut Report) {
    report.each("erasure", vectors, "roots", check_root);
    report.each("erasure", vectors, "extend", |case| check_extend(case, context.device.as_ref()));
    report.each("erasure", vectors, "extend_errors", check_extend_error);
    report.case("erasure extend_commitments", || check_commitments(vectors));
    let name = "erasure commitments of extend_commitments";
    if context.kzg.is_some() {
        report.case(name, || check_commitment_sources(vectors, context));
    } else {
        report.skip(name, "needs --kzg-parameters");
    }
}

/// Scalars that a label stands for, by the rule that the vectors name.
pub(super) fn chunks(rule: &str, label: &str, count: usize) -> Check<Vec<[u8; 32]>> {
    let bytes = |size: usize| super::json::labelled(label, size * count);
    let chunk = |slice: &[u8]| {
        let mut chunk = [0; 32];
        chunk[32 - slice.len()..].copy_from_slice(slice);
        chunk
    };
    let mut chunks: Vec<[u8; 32]> = match rule {
        "scalars31" => bytes(31).chunks(31).map(chunk).collect(),
        "scalars254" => bytes(32).chunks(32).map(chunk).collect(),
        _ => return Err(format!("unknown scalar rule '{rule}'")),
    };
    chunks.iter_mut().for_each(|chunk| chunk[0] &= 0x3f);
    Ok(chunks)
}

/// [`chunks`] as scalars.
pub(super) fn scalars(rule: &str, label: &str, count: usize) -> Check<Vec<Scalar>> {
    let chunks = chunks(rule, label, count)?;
    chunks.iter().map(Scalar::from_bytes).collect::<Result<_, _>>().map_err(|error| error.to_string())
}

/// Scalars as they are written.
pub(super) fn serialised(scalars: &[Scalar]) -> Vec<u8> {
    scalars.iter().flat_map(|scalar| scalar.to_bytes()).collect()
}

/// The scalars of a case with `scalars`, `label` and `n`.
pub(super) fn scalars_of(case: &Value) -> Check<Vec<Scalar>> {
    scalars(text(case, "scalars")?, text(case, "label")?, size(case, "n")?)
}

fn check_root(case: &Value) -> Check {
    let log2_width = number(case, "log2_width")?;
    if log2_width > 16 {
        return Err(format!("no root of order 2^{log2_width} is used"));
    }
    equal("omega", root_of_unity(log2_width as u32).to_bytes(), array(case, "omega")?)
}

fn check_extend(case: &Value, device: Option<&KernelDevice>) -> Check {
    let record = chunks(text(case, "scalars")?, text(case, "label")?, size(case, "n")?)?;
    digest("source", record.as_flattened(), super::json::member(case, "source")?)?;
    let parity = backend::extend(device, &record)?;
    digest("parity", parity.as_flattened(), super::json::member(case, "parity")?)?;
    for sample in optional(case, "parity_samples").and_then(Value::as_array).into_iter().flatten() {
        let index = number_of(&sample[0])? as usize;
        equal("parity sample", parity.get(index).copied(), Some(array_of(&sample[1])?))?;
    }
    let Some(patterns) = optional(case, "recover").and_then(Value::as_array) else { return Ok(()) };
    check_recovery(case, patterns)
}

fn check_recovery(case: &Value, patterns: &[Value]) -> Check {
    let source = scalars_of(case)?;
    let mut parity = vec![Scalar::ZERO; source.len()];
    extend(&source, &mut parity).map_err(|error| error.to_string())?;
    let extended: Vec<Scalar> =
        source.iter().zip(parity).flat_map(|(source, parity)| [*source, parity]).collect();
    hash_equal("interleaved values", &serialised(&extended), case, "interleaved_blake3")?;
    let polynomial = Polynomial::from_values(&source).map_err(|error| error.to_string())?;
    digest("polynomial", &serialised(polynomial.coefficients()), super::json::member(case, "poly_coeffs")?)?;
    patterns.iter().try_for_each(|pattern| {
        check_pattern(text(case, "label")?, pattern, &extended, &polynomial)
            .map_err(|error| format!("{}: {error}", text(pattern, "pattern").unwrap_or("pattern")))
    })
}

fn check_pattern(label: &str, case: &Value, extended: &[Scalar], polynomial: &Polynomial) -> Check {
    let present = present_places(text(case, "pattern")?, label, extended.len())?;
    let shards: Vec<Option<Scalar>> =
        extended.iter().zip(&present).map(|(value, present)| present.then_some(*value)).collect();
    if let Some(error) = optional(case, "error") {
        let found = recover(&shards).map(|_| ()).map_err(|error| error.to_string());
        let found = found.err().ok_or_else(|| format!("recovered where {error} is due"))?;
        equal("names the cause", found.contains("too many shards are missing"), true)?;
        return equal("polynomial", recover_polynomial(&shards).is_err(), true);
    }
    if let Some(available) = optional(case, "available") {
        equal("available", shards.iter().flatten().count() as u64, number_of(available)?)?;
    }
    // Where the network's library panics, with nothing missing, there is nothing to do and the values come back.
    equal("values", recover(&shards).as_deref() == Ok(extended), true)?;
    equal("polynomial", recover_polynomial(&shards).as_ref() == Ok(polynomial), true)
}

fn present_places(pattern: &str, label: &str, count: usize) -> Check<Vec<bool>> {
    let by_place = |keep: &dyn Fn(usize) -> bool| Ok((0..count).map(keep).collect());
    match pattern {
        "odd (parity) only" => by_place(&|place| place % 2 == 1),
        "even (source) only" => by_place(&|place| place % 2 == 0),
        "first half" => by_place(&|place| place < count / 2),
        "second half" => by_place(&|place| place >= count / 2),
        "one missing (index 1)" => by_place(&|place| place != 1),
        "nothing missing" => Ok(vec![true; count]),
        "first n+1 missing (too many)" => by_place(&|place| place > count / 2),
        "mask" => {
            let mask = super::json::labelled(&format!("{label}/mask"), count);
            let mut present: Vec<bool> = mask.iter().map(|byte| *byte < 160).collect();
            let kept = present.iter().filter(|present| **present).count();
            let lacking = (count / 2).saturating_sub(kept);
            present.iter_mut().filter(|present| !**present).take(lacking).for_each(|present| *present = true);
            Ok(present)
        }
        _ => Err(format!("unknown pattern '{pattern}'")),
    }
}

fn check_extend_error(case: &Value) -> Check {
    use consensus::erasure::ErasureError;
    let length = size(case, "n")?;
    let found = extend(&vec![Scalar::ONE; length], &mut vec![Scalar::ZERO; length]);
    let expected = match text(case, "error")? {
        "A non-zero list ab expected" => ErasureError::Empty,
        "A list with power-of-two length expected" => ErasureError::NotPowerOfTwo { length },
        "Supplied list is longer than the available max width" => ErasureError::TooLong { length },
        other => return Err(format!("unknown error '{other}'")),
    };
    equal("error", found, Err(expected))
}

fn commitments(case: &Value, key: &str) -> Check<Vec<[u8; 48]>> {
    list(case, key)?.iter().map(array_of).collect()
}

fn check_commitments(vectors: &Value) -> Check {
    let case = super::json::member(vectors, "extend_commitments")?;
    let found = extend_commitments(&commitments(case, "source")?).map_err(|error| error.to_string())?;
    equal("extended commitments", found, commitments(case, "extended_interleaved")?)
}

fn check_commitment_sources(vectors: &Value, context: &Context) -> Check {
    let case = super::json::member(vectors, "extend_commitments")?;
    for (i, expected) in commitments(case, "source")?.into_iter().enumerate() {
        let label = format!("{}/erasure/commitment/{i}", text(vectors, "label_prefix")?);
        let polynomial =
            Polynomial::from_values(&scalars("scalars31", &label, 16)?).map_err(|error| error.to_string())?;
        equal("commitment", context.kzg()?.commit(&polynomial), Ok(expected))?;
    }
    Ok(())
}
