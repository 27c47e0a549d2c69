//! Every level of instructions against the portable one: audits, extension and recovery. Tables take minutes with a fuzzer's
//! instrumentation, and no seed is like another to them: their levels are compared by tests.
#![no_main]

use consensus::CpuLevel;
use consensus::audit::distances;
use consensus::bls::Scalar;
use consensus::challenge::SectorSlotChallenge;
use consensus::erasure::{Extender, Recovery};
use fuzz::filled;
use libfuzzer_sys::fuzz_target;

/// Widths up to 4096: rows and zero polynomials of a few hundred values and more are made in ways of their own.
const LOG2_WIDTHS: u8 = 13;

fuzz_target!(|bytes: &[u8]| {
    let Some((&[left_out, log2_width], bytes)) = bytes.split_first_chunk() else { return };
    let width = 1 << (log2_width % LOG2_WIDTHS);
    let chunks = chunks(bytes, width);
    let (challenge, sector) = (chunks[0], SectorSlotChallenge(chunks[width - 1]));
    // Any number of them, also such that fill no vector.
    let audited = &chunks[..width - usize::from(left_out) % width];
    equal_at_every_level("distances", |level| distances(level, &challenge, &sector, audited));
    equal_at_every_level("parity", |level| parity(level, &chunks));

    let reduced: Vec<_> = chunks.iter().map(Scalar::from_bytes_reduced).collect();
    let canonical: Vec<_> = reduced.iter().map(|scalar| scalar.to_bytes()).collect();
    let parity = parity(CpuLevel::detect(), &canonical).expect("scalars can be extended");
    let parity = parity.iter().map(|chunk| Scalar::from_bytes(chunk).expect("parity is made of scalars"));
    let extended: Vec<_> = reduced.iter().copied().zip(parity).flat_map(<[_; 2]>::from).collect();
    let present: Vec<_> = filled(bytes, 2 * width).iter().map(|byte| byte % 2 == 1).collect();
    let absent: Vec<_> = present.iter().map(|present| !present).collect();
    for present in [present, absent] {
        check_recovery(&present, &extended);
        // Not of one polynomial.
        let doubled: Vec<_> = reduced.iter().chain(&reduced).copied().collect();
        equal_at_every_level("contradictions", |level| recovered(level, &present, &doubled));
    }
});

/// What of half or more of `extended` all levels recover is `extended`.
fn check_recovery(present: &[bool], extended: &[Scalar]) {
    let known: Vec<_> = present
        .iter()
        .zip(extended)
        .map(|(present, value)| if *present { *value } else { Scalar::ZERO })
        .collect();
    let is_enough = 2 * present.iter().filter(|present| **present).count() >= present.len();
    for level in CpuLevel::available() {
        let recovered = recovered(level, present, &known);
        assert!(recovered.as_deref().ok() == is_enough.then_some(extended), "recovery by {}", level.name());
    }
}

fn equal_at_every_level<T: PartialEq>(what: &str, result: impl Fn(CpuLevel) -> T) {
    let mut levels = CpuLevel::available().into_iter();
    let portable = result(levels.next().expect("portable is the first"));
    for level in levels {
        assert!(result(level) == portable, "{what} by {}", level.name());
    }
}

/// `bytes` in `count` chunks, each different where any is: a transform of equal values would see only their sum. Every fourth is
/// what it is, the others are scalars mostly.
fn chunks(bytes: &[u8], count: usize) -> Vec<[u8; 32]> {
    let mut chunks = filled(bytes, 32 * count).as_chunks::<32>().0.to_vec();
    for (index, chunk) in chunks.iter_mut().enumerate() {
        if index % 4 != 0 {
            chunk[0] &= 0x3F;
        }
        chunk[30] ^= index as u8;
        chunk[29] ^= (index >> 8) as u8;
    }
    chunks
}

fn parity(level: CpuLevel, chunks: &[[u8; 32]]) -> Result<Vec<[u8; 32]>, String> {
    let mut parity = vec![[0; 32]; chunks.len()];
    let mut extender = Extender::new(level, chunks.len()).expect("a power of two");
    extender.extend_record(chunks, &mut parity).map_err(|error| error.to_string())?;
    Ok(parity)
}

fn recovered(level: CpuLevel, present: &[bool], values: &[Scalar]) -> Result<Vec<Scalar>, String> {
    let recovery = Recovery::at_level(level, present).map_err(|error| error.to_string())?;
    let mut values = values.to_vec();
    recovery.recover(&mut values).map_err(|error| error.to_string())?;
    Ok(values)
}
