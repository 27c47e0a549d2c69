//! GPUs as a backend, whatever drives them: sectors encoded, and chunks proved, by the kernels of [`crate::interface`].
//!
//! ```text
//!   CardEncoder ── begin ─▶ rooms: a session's area on the device with most room
//!        │ submit ─▶ queue ─▶ feeder ─▶ lanes (batches of records) ─▶ records in the area
//!        │                       └─▶ inspectors: some records again by the CPU, bit for bit
//!        └ finish ─▶ windows: assemble, hash, copy out ─▶ slabs in on-disk order
//! ```
//! Owns: which kernels run when on which memory, and whether a device is to be trusted. Never: kernels, drivers, files, sockets.

mod access;
mod area;
mod budget;
#[allow(clippy::module_inception, reason = "one card, of the cards that this module is about")]
mod card;
mod encoder;
mod feeder;
mod finish;
mod inspect;
mod lent;
mod pipeline;
mod place;
mod plain;
mod prove_lane;
mod prover;
mod rooms;
mod spans;
mod windows;

pub use budget::{Budget, BudgetError, Wanted};
pub use encoder::{CardEncoder, CardEncoderOptions, DEFAULT_CHECK_EVERY, EncodingDevice};
pub(crate) use finish::starts;
pub(crate) use lent::Lent;
pub(crate) use pipeline::{Module, launch};
pub(crate) use plain::{bytes_of, read};
pub use prover::{CardProver, CardProverOptions, DEFAULT_PROVING_BATCH};

use crate::device::{Device, DeviceError, Registration};
use consensus::constants::POS_K;
use engine::pool::{Pool, PoolError};

/// Why devices cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// More slabs than there are.
    #[error(
        "the GPUs' sessions take {wanted} buffers of 2 MiB, but may use {available}: make the pool larger"
    )]
    Slabs {
        /// Slabs that the sessions take.
        wanted: usize,
        /// Slabs that they may take.
        available: usize,
    },
    /// Kernels for other tables.
    #[error("{device}: its kernels are for K = {k}, the network has K = {POS_K}: this build is for tests")]
    Kernels {
        /// Which.
        device: String,
        /// K of its kernels.
        k: u32,
    },
    /// Not enough memory there.
    #[error("{device}: {source}")]
    Budget {
        /// Which.
        device: String,
        /// What is missing.
        source: BudgetError,
    },
    /// The device refused.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// No buffers.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// No thread.
    #[error("cannot start threads: {0}; raise the limit of threads (ulimit -u)")]
    Thread(#[from] std::io::Error),
}

/// Refuses kernels of test builds.
fn check_kernels(device: &dyn Device) -> Result<(), StartError> {
    let k = device.layout().k;
    if k == POS_K { Ok(()) } else { Err(StartError::Kernels { device: device.name().into(), k }) }
}

/// A pool that a device knows. The registration goes before the memory.
pub(crate) struct Registered {
    _registration: Box<dyn Registration>,
    _pool: Pool,
}

impl Registered {
    /// None where the device will copy more slowly, which is logged.
    #[allow(unsafe_code)]
    pub(crate) fn new(device: &dyn Device, pool: &Pool) -> Option<Self> {
        let (start, bytes) = pool.memory();
        // SAFETY: the pool's memory stays mapped and in place while the pool lives, which is kept beside the registration.
        match unsafe { device.register(start.as_ptr(), bytes) } {
            Ok(registration) => Some(Self { _registration: registration, _pool: pool.clone() }),
            Err(error) => {
                tracing::warn!("copies will be slow, since memory cannot be registered: {error}");
                None
            }
        }
    }
}
