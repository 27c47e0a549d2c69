//! The health of a disk as other threads read it, with what is counted of it.

use super::health::Health;
use crate::error::Action;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Kinds of operations: [`Action`]s.
const KINDS: usize = 4;

/// Written by the disk's executor, read by anybody. Counts begin with the process and only grow.
#[derive(Debug, Default)]
pub struct HealthCell {
    health: AtomicU8,
    late: [AtomicU64; KINDS],
    failed: [AtomicU64; KINDS],
    refused: AtomicU64,
    device: OnceLock<String>,
}

impl HealthCell {
    /// How the disk is doing.
    pub fn get(&self) -> Health {
        Health::of(self.health.load(Ordering::Acquire))
    }

    /// The device as the system names it, `nvme0n1p2`, or its numbers, `259:2`; empty where that is not known.
    pub fn device(&self) -> &str {
        self.device.get().map_or("", String::as_str)
    }

    /// Operations that were not done within their limit.
    pub fn late(&self, action: Action) -> u64 {
        self.late[action as usize].load(Ordering::Relaxed)
    }

    /// Operations that the system refused.
    pub fn failed(&self, action: Action) -> u64 {
        self.failed[action as usize].load(Ordering::Relaxed)
    }

    /// Operations that were refused at once since the disk was sick or gone.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn set_device(&self, device: &str) {
        self.device.get_or_init(|| device.to_owned());
    }

    pub(super) fn set(&self, health: Health) {
        self.health.store(health as u8, Ordering::Release);
    }

    pub(super) fn count_late(&self, action: Action) {
        self.late[action as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_failed(&self, action: Action) {
        self.failed[action as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}
