//! Erasure coding as segment reconstruction uses it. The network's own results are run by `util conformance`.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{bytes, scalars};
use consensus::bls::Scalar;
use consensus::erasure::{Recovery, extend};

fn extended(source: &[Scalar]) -> Vec<Scalar> {
    let mut parity = vec![Scalar::ZERO; source.len()];
    extend(source, &mut parity).unwrap();
    source.iter().zip(parity).flat_map(|(source, parity)| [*source, parity]).collect()
}

/// One set of pieces, many offsets.
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
