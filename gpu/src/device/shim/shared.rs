//! What a device is like, and what everything on it shares.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};

use super::memory::Memory;
use crate::device::DeviceError;
use crate::interface::Layout;

/// What a [`ShimDevice`] is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShimOptions {
    /// K of the tables: 16, 17 or 20.
    pub k: u32,
    /// Draws the order of threads, blocks and streams; none: blocks and threads run in a fixed order.
    pub schedule_seed: Option<u64>,
    /// Threads of a launch, at most 64.
    pub os_threads: u32,
    /// Memory of the device.
    pub memory_bytes: usize,
}

/// A fault that a test asks for. Numbers count from the next call, which is 1, over all streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The device is lost when this launch's turn comes.
    LoseAtLaunch(u64),
    /// This launch is refused, and the device goes on.
    RefuseLaunch(u64),
    /// This copy to the host comes out with one bit the other way round.
    FlipBit {
        /// Which copy.
        copy_out: u64,
        /// Which bit of it, the lowest of the first byte being 0; counted round if there are fewer.
        bit: usize,
    },
}

/// What buffers, streams and marks share.
pub struct Shared {
    pub name: String,
    pub layout: Layout,
    pub options: ShimOptions,
    pub memory: Memory,
    pub faults: Mutex<Vec<Fault>>,
    pub launches: Counter,
    pub copies_out: Counter,
    pub lost: OnceLock<String>,
    pub gate: RwLock<()>,
}

/// Numbers calls from 1.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Fails once the device is lost.
    pub fn check(&self) -> Result<(), DeviceError> {
        match self.lost.get() {
            Some(reason) => Err(DeviceError::Lost { device: self.name.clone(), reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// The first reason stays.
    pub fn lose(&self, reason: String) {
        self.lost.get_or_init(|| reason);
    }

    pub fn refused(&self, reason: String) -> DeviceError {
        DeviceError::Refused { device: self.name.clone(), reason }
    }

    /// What a fault makes of a call, if it was asked for.
    pub fn fault<T>(&self, find: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).iter().find_map(find)
    }
}
