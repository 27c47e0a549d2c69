//! Which memory of the shim is in use, and by what.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::device::{DeviceAddress, DeviceMemory};

/// What is allocated, and whether work is on its way.
pub struct Memory {
    pub total_bytes: usize,
    state: Mutex<State>,
    /// Told when no work is pending.
    pub idle: Condvar,
}

#[derive(Default)]
pub struct State {
    pub used_bytes: usize,
    /// Size by address.
    pub allocated: BTreeMap<DeviceAddress, usize>,
    /// Work that is queued or runs.
    pub pending: usize,
}

impl Memory {
    pub fn new(total_bytes: usize) -> Self {
        Self { total_bytes, state: Mutex::default(), idle: Condvar::new() }
    }

    pub fn usage(&self) -> DeviceMemory {
        DeviceMemory { free_bytes: self.total_bytes - self.state().used_bytes, total_bytes: self.total_bytes }
    }

    /// Whether the range lies within one allocation.
    pub fn holds(&self, address: DeviceAddress, bytes: usize) -> bool {
        let state = self.state();
        let Some((&start, &size)) = state.allocated.range(..=address).next_back() else {
            return false;
        };
        let end = address.checked_add(bytes as u64);
        end.is_some_and(|end| end <= start + size as u64)
    }

    /// A piece of work is queued.
    pub fn work_begins(&self) {
        self.state().pending += 1;
    }

    /// It is done.
    pub fn work_ends(&self) {
        let mut state = self.state();
        state.pending -= 1;
        if state.pending == 0 {
            self.idle.notify_all();
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
