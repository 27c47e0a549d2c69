//! Memory of the shim: host memory with a limit and known bounds.

use std::alloc::{Layout, alloc, dealloc};
use std::sync::{Arc, PoisonError};

use super::shared::Shared;
use crate::device::{DeviceAddress, DeviceBuffer, DeviceError};

/// As a card aligns memory.
const ALIGNMENT: usize = 256;
/// What fresh memory holds, so that a kernel that counts on zeros goes wrong.
pub const FRESH: u8 = 0xc5;

/// Memory of the device.
pub struct ShimBuffer {
    shared: Arc<Shared>,
    start: *mut u8,
    layout: Layout,
}

// SAFETY: owns the memory; whoever uses its address promises order.
unsafe impl Send for ShimBuffer {}
// SAFETY: as above.
unsafe impl Sync for ShimBuffer {}

impl ShimBuffer {
    pub fn new(shared: &Arc<Shared>, bytes: usize) -> Result<Self, DeviceError> {
        let full = || DeviceError::Memory { device: shared.name.clone(), bytes };
        if bytes == 0 {
            return Err(shared.refused("no bytes to allocate".to_owned()));
        }
        let layout = Layout::from_size_align(bytes, ALIGNMENT).map_err(|_| full())?;
        let mut state = shared.memory.state();
        if bytes > shared.memory.total_bytes - state.used_bytes {
            return Err(full());
        }
        // SAFETY: the size is not 0.
        let start = unsafe { alloc(layout) };
        if start.is_null() {
            return Err(full());
        }
        // SAFETY: just allocated.
        unsafe { start.write_bytes(FRESH, bytes) };
        state.used_bytes += bytes;
        state.allocated.insert(start.expose_provenance() as u64, bytes);
        drop(state);
        Ok(Self { shared: Arc::clone(shared), start, layout })
    }
}

impl DeviceBuffer for ShimBuffer {
    fn address(&self) -> DeviceAddress {
        self.start.addr() as u64
    }

    fn size_bytes(&self) -> usize {
        self.layout.size()
    }
}

impl Drop for ShimBuffer {
    /// As with a card's driver, memory goes only once all work is done that was queued before.
    fn drop(&mut self) {
        let memory = &self.shared.memory;
        let idle = memory.idle.wait_while(memory.state(), |state| state.pending > 0);
        let mut state = idle.unwrap_or_else(PoisonError::into_inner);
        state.allocated.remove(&(self.start.addr() as u64));
        state.used_bytes -= self.layout.size();
        // SAFETY: allocated with this layout, and no work uses it any more.
        unsafe { dealloc(self.start, self.layout) };
    }
}
