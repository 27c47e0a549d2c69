//! What a device does in a second: for benchmarks, and for choosing `GPU_CONCURRENCY`.
//!
//! ```text
//!   sweep ──▶ CardEncoder, as a plot-server has it, at one concurrency after another ──▶ Point ... ──▶ best
//! ```
//! Owns: measurements that need nothing but a device. Never: what they are printed as; figures of one device said to be another's.

mod records;
mod sweep;

pub use sweep::{Point, SweepOptions, best, sweep};

use crate::card::{BudgetError, StartError};
use crate::device::DeviceError;
use crate::{BeginError, FinishError, PieceError, SectorError};
use engine::pool::PoolError;

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
