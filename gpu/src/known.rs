//! Records at K = 17 whose outcome is known: for looking at kernels with tools that slow a card down too much for K = 20, of which the network's
//! golden vectors are.
//!
//! Owns: the digests, which tests make again with an obvious implementation of the tables. Never: anything that plotting needs.

use crate::device::DeviceError;
use crate::workbench::{Workbench, WorkedRecord};
use consensus::constants::RECORD_SIZE;

/// K of these tables.
pub const KNOWN_K: u32 = 17;

/// What becomes of each record, see [`digest`].
pub const KNOWN: [&str; 3] = [
    "9c9a8f1ba5e581ab820b26be1167c153ec5890339c2ed784905a47c42854fb45",
    "07cc2541f9dd6d8480dfd0a5a22e74cb74be11f6c0345b6aef34a0ba604a4093",
    "d3ed9e56eb1be7123ca05ed23c2f9095cf63744b7db8bef0447cef276c5c5989",
];

/// Why kernels are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum KnownError {
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A record came out otherwise.
    #[error("record {number} at K = {KNOWN_K} came out wrong: digest {found}, not {expected}")]
    Wrong {
        /// Which.
        number: usize,
        /// What came out.
        found: String,
        /// What should.
        expected: &'static str,
    },
}

/// Seed and record of a number.
pub fn input(number: usize) -> ([u8; 32], Vec<u8>) {
    let mut random =
        blake3::Hasher::new().update(b"known").update(&(number as u64).to_le_bytes()).finalize_xof();
    let (mut seed, mut record) = ([0; 32], vec![0; RECORD_SIZE]);
    random.fill(&mut seed);
    random.fill(&mut record);
    // Below the modulus of scalars.
    record.iter_mut().step_by(32).for_each(|byte| *byte &= 0x3f);
    (seed, record)
}

/// BLAKE3 of the bitfield and the encoded chunks.
pub fn digest(bitfield: &[u8], chunks: &[u8]) -> String {
    blake3::Hasher::new().update(bitfield).update(chunks).finalize().to_string()
}

/// Encodes all of them.
///
/// # Errors
/// The device fails, or its kernels do; those of another K always do.
pub fn check(bench: &Workbench) -> Result<(), KnownError> {
    for (number, expected) in KNOWN.into_iter().enumerate() {
        let (seed, record) = input(number);
        let WorkedRecord { result, bitfield, chunks } = bench.encode(&seed, &record)?;
        let found = digest(&bitfield, &chunks);
        let flags = (result.flags, result.invalid);
        if found != expected || flags != (0, 0) {
            return Err(KnownError::Wrong {
                number,
                found: format!("{found} with flags {flags:?}"),
                expected,
            });
        }
    }
    Ok(())
}
