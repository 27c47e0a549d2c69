//! What a device does in a second: for benchmarks, and for choosing `GPU_CONCURRENCY`.
//!
//! ```text
//!   sweep ──▶ CardEncoder, as a plot-server has it, at one concurrency after another ──▶ Point ... ──▶ best
//!   stages ─▶ each kernel by itself, between two marks, on as many records as fill a device
//!   copies ─▶ host memory to the device and back
//! ```
//! Owns: measurements that need nothing but a device. Never: what they are printed as; figures of one device said to be another's.

mod copies;
mod records;
mod stages;
mod sweep;

pub use copies::{Copies, copies};
pub use stages::{Stage, Stages, stages};
pub use sweep::{Point, SweepOptions, best, sweep};

use crate::card::{BudgetError, StartError};
use crate::device::DeviceError;
use crate::{BeginError, FinishError, PieceError, SectorError};
use engine::pool::PoolError;

/// Operations of one lane of an SM that a record takes: counted on a prototype, see docs/GPU.md.
const RECORD_OPERATIONS: f64 = 6.3e9;
/// Of these, an SM does so many in a clock.
const MULTIPROCESSOR_LANES: f64 = 64.0;

/// Milliseconds that a record takes at least on a card that does nothing else than what must be done, at its highest clock.
pub fn floor_ms(multiprocessors: u32, clock_mhz: u32) -> f64 {
    let operations_per_ms = f64::from(multiprocessors) * MULTIPROCESSOR_LANES * f64::from(clock_mhz) * 1000.0;
    RECORD_OPERATIONS / operations_per_ms
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// Nothing was asked for.
    #[error("nothing to measure: no GPU_CONCURRENCY was named")]
    NoCounts,
    /// No count fits the device.
    #[error("{device}: {source}")]
    Budget {
        /// Which.
        device: String,
        /// What is missing.
        source: BudgetError,
    },
    /// What was measured is not the work that was meant.
    #[error(
        "{device}: {what}: run `autonomys-farmer util conformance DIR --backend gpu --only pos,erasure,sector`"
    )]
    Wrong {
        /// Which.
        device: String,
        /// What is wrong.
        what: &'static str,
    },
    /// No encoder.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// No buffers.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// No session.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// A record was not encoded.
    #[error(transparent)]
    Piece(#[from] PieceError),
    /// A sector was not put together.
    #[error(transparent)]
    Finish(#[from] FinishError),
    /// A sector did not come out.
    #[error(transparent)]
    Sector(#[from] SectorError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_of_some_cards() {
        // H200, RTX 4090, RTX 2080 at the clocks their makers name.
        let floors = [(132, 1980), (128, 2520), (46, 1710)].map(|(sms, mhz)| floor_ms(sms, mhz));
        for (floor, expected) in floors.into_iter().zip([0.38, 0.31, 1.25]) {
            assert!((floor / expected - 1.0).abs() < 0.02, "{floor} for {expected}");
        }
    }
}
