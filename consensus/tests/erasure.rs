//! Erasure coding against the network's own results.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{
    assert_digest, bytes, chunks, hex_array, list, mainnet_parameters, number, scalars, serialised, text,
    vectors,
};
use consensus::bls::Scalar;
use consensus::erasure::{
    ErasureError, Recovery, extend, extend_commitments, extend_record, recover, recover_polynomial,
};
use consensus::fft::root_of_unity;
use consensus::kzg::{Kzg, Polynomial};
use serde_json::Value;

#[test]
fn roots_of_unity() {
    let Some(vectors) = vectors("erasure.json") else { return };
    assert_eq!(list(&vectors["roots"]).len(), 17);
    for case in list(&vectors["roots"]) {
        let log2_width = number(&case["log2_width"]) as u32;
        assert_eq!(root_of_unity(log2_width).to_bytes(), hex_array(&case["omega"]));
    }
}

#[test]
fn extension() {
    let Some(vectors) = vectors("erasure.json") else { return };
    for case in list(&vectors["extend"]) {
        let (label, rule, n) = (text(&case["label"]), text(&case["scalars"]), number(&case["n"]));
        let record = chunks(rule, label, n);
        assert_digest(record.as_flattened(), &case["source"], label);
        let mut parity = vec![[0; 32]; n];
        extend_record(&record, &mut parity).unwrap();
        assert_digest(parity.as_flattened(), &case["parity"], label);
        for sample in case["parity_samples"].as_array().into_iter().flatten() {
            assert_eq!(parity[number(&sample[0])], hex_array(&sample[1]), "{label}");
        }
    }
}

#[test]
fn extension_errors() {
    let Some(vectors) = vectors("erasure.json") else { return };
    for case in list(&vectors["extend_errors"]) {
        let length = number(&case["n"]);
        let found = extend(&vec![Scalar::ONE; length], &mut vec![Scalar::ZERO; length]).unwrap_err();
        let expected = match text(&case["error"]) {
            "A non-zero list ab expected" => ErasureError::Empty,
            "A list with power-of-two length expected" => ErasureError::NotPowerOfTwo { length },
            "Supplied list is longer than the available max width" => ErasureError::TooLong { length },
            other => panic!("unknown error: {other}"),
        };
        assert_eq!(found, expected);
    }
}

#[test]
fn recovery() {
    let Some(vectors) = vectors("erasure.json") else { return };
    for case in list(&vectors["extend"]) {
        let Some(patterns) = case["recover"].as_array() else { continue };
        let source = scalars(text(&case["scalars"]), text(&case["label"]), number(&case["n"]));
        let extended = extended(&source);
        let hash = blake3::hash(&serialised(&extended)).to_string();
        assert_eq!(hash, text(&case["interleaved_blake3"]));
        let polynomial = Polynomial::from_values(&source).unwrap();
        assert_digest(&serialised(polynomial.coefficients()), &case["poly_coeffs"], text(&case["label"]));
        for pattern in patterns {
            check_pattern(text(&case["label"]), pattern, &extended, &polynomial);
        }
    }
}

fn extended(source: &[Scalar]) -> Vec<Scalar> {
    let mut parity = vec![Scalar::ZERO; source.len()];
    extend(source, &mut parity).unwrap();
    source.iter().zip(parity).flat_map(|(source, parity)| [*source, parity]).collect()
}

fn check_pattern(label: &str, case: &Value, extended: &[Scalar], polynomial: &Polynomial) {
    let pattern = text(&case["pattern"]);
    let present = present_places(pattern, label, extended.len());
    let shards: Vec<_> =
        extended.iter().zip(present).map(|(value, present)| present.then_some(*value)).collect();
    if let Some(error) = case["error"].as_str() {
        assert_eq!(error, "Impossible to recover, too many shards are missing");
        let found = recover(&shards).unwrap_err();
        assert!(found.to_string().contains("too many shards are missing"), "{found}");
        assert_eq!(recover_polynomial(&shards), Err(found));
        return;
    }
    // Where the network's library panics, with nothing missing, we have nothing to do and say so.
    let panics = case["result"].as_str() == Some("Err(\"panic\")");
    assert_eq!(panics, pattern == "nothing missing");
    if !panics {
        assert_eq!(shards.iter().flatten().count(), number(&case["available"]), "{label}: {pattern}");
        assert_eq!(case["recover_equals_interleaved"], true);
        assert_eq!(case["recover_poly_equals_poly_of_source"], true);
    }
    assert!(recover(&shards).unwrap() == extended, "{label}: {pattern}");
    assert!(recover_polynomial(&shards).unwrap() == *polynomial, "{label}: {pattern}");
}

fn present_places(pattern: &str, label: &str, count: usize) -> Vec<bool> {
    let by_place = |keep: &dyn Fn(usize) -> bool| (0..count).map(keep).collect();
    match pattern {
        "odd (parity) only" => by_place(&|place| place % 2 == 1),
        "even (source) only" => by_place(&|place| place % 2 == 0),
        "first half" => by_place(&|place| place < count / 2),
        "second half" => by_place(&|place| place >= count / 2),
        "one missing (index 1)" => by_place(&|place| place != 1),
        "nothing missing" => vec![true; count],
        "first n+1 missing (too many)" => by_place(&|place| place > count / 2),
        "mask" => {
            let mask = bytes(&format!("{label}/mask"), count);
            let mut present: Vec<_> = mask.iter().map(|byte| *byte < 160).collect();
            let kept = present.iter().filter(|present| **present).count();
            let lacking = (count / 2).saturating_sub(kept);
            present.iter_mut().filter(|present| !**present).take(lacking).for_each(|present| *present = true);
            present
        }
        _ => panic!("unknown pattern {pattern}"),
    }
}

#[test]
fn commitments() {
    let Some(vectors) = vectors("erasure.json") else { return };
    let case = &vectors["extend_commitments"];
    let source: Vec<[u8; 48]> = list(&case["source"]).iter().map(hex_array).collect();
    let expected: Vec<[u8; 48]> = list(&case["extended_interleaved"]).iter().map(hex_array).collect();
    assert_eq!(extend_commitments(&source).unwrap(), expected);

    let Some(parameters) = mainnet_parameters() else { return };
    let kzg = Kzg::from_parameters(&parameters).unwrap();
    for (i, commitment) in source.iter().enumerate() {
        let label = format!("{}/erasure/commitment/{i}", text(&vectors["label_prefix"]));
        let polynomial = Polynomial::from_values(&scalars("scalars31", &label, 16)).unwrap();
        assert_eq!(kzg.commit(&polynomial).as_ref(), Ok(commitment));
    }
}

/// The way of segment reconstruction: one set of pieces, many offsets.
#[test]
fn one_recovery_for_a_segment() {
    let present: Vec<_> = bytes("segment/mask", 256).iter().map(|byte| *byte < 160).collect();
    let recovery = Recovery::new(&present).unwrap();
    for offset in 0..64 {
        let source = scalars("scalars31", &format!("segment/offset/{offset}"), 128);
        let expected = extended(&source);
        let mut values = expected.clone();
        for (value, present) in values.iter_mut().zip(&present) {
            if !present {
                *value = Scalar::ZERO;
            }
        }
        recovery.recover(&mut values).unwrap();
        assert_eq!(values, expected, "offset {offset}");
    }
}
