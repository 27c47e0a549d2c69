//! Memory of a card, and host memory that cards copy from and to directly.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cudarc::driver::{result, sys};

use super::context::Context;
use crate::device::{DeviceAddress, DeviceBuffer, DeviceError, Registration};

/// Memory of a card.
pub(super) struct Buffer {
    context: Arc<Context>,
    address: DeviceAddress,
    bytes: usize,
}

impl Buffer {
    /// Takes memory, which the driver aligns to at least 256 bytes.
    pub fn allocate(context: &Arc<Context>, bytes: usize) -> Result<Self, DeviceError> {
        context.enter()?;
        // SAFETY: the driver refuses a size of 0; `drop` gives the memory back once.
        let address = context.check_memory(bytes, unsafe { result::malloc_sync(bytes) })?;
        Ok(Self { context: Arc::clone(context), address, bytes })
    }
}

impl DeviceBuffer for Buffer {
    fn address(&self) -> DeviceAddress {
        self.address
    }

    fn size_bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: taken in `allocate`; the driver waits for work that uses it.
        self.context.give_back("memory", || unsafe { result::memory_free(self.address) });
    }
}

/// Host memory known to the driver, for all cards: a second card that registers the same range shares the first one's.
struct Pinned {
    context: Arc<Context>,
    range: Range,
}

/// First byte and size.
type Range = (usize, usize);

/// Ranges that are registered now.
static PINNED: Mutex<Option<HashMap<Range, Weak<Pinned>>>> = Mutex::new(None);

impl Registration for Arc<Pinned> {}

/// Registers `start..start + bytes`.
///
/// # Safety
/// The range is mapped while the handle lives.
pub(super) unsafe fn register(
    context: &Arc<Context>,
    start: *mut u8,
    bytes: usize,
) -> Result<Box<dyn Registration>, DeviceError> {
    context.enter()?;
    let range = (start.addr(), bytes);
    let mut pinned = PINNED.lock().unwrap_or_else(PoisonError::into_inner);
    let pinned = pinned.get_or_insert_default();
    if let Some(shared) = pinned.get(&range).and_then(Weak::upgrade) {
        return Ok(Box::new(shared));
    }
    // SAFETY: the caller's promise; PORTABLE makes it known to every context.
    let call = unsafe { sys::cuMemHostRegister_v2(start.cast(), bytes, sys::CU_MEMHOSTREGISTER_PORTABLE) };
    context.check(call.result())?;
    let handle = Arc::new(Pinned { context: Arc::clone(context), range });
    pinned.insert(range, Arc::downgrade(&handle));
    Ok(Box::new(handle))
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // Held over both: whoever finds no entry finds the range given back. One that comes between the last handle's end and this lock is
        // refused by the driver, which costs it only speed.
        let mut pinned = PINNED.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: registered by `register`, and this is the last handle.
        let call = || unsafe { sys::cuMemHostUnregister(self.range.0 as *mut _) }.result();
        self.context.give_back("host memory", call);
        if let Some(pinned) = pinned.as_mut() {
            pinned.remove(&self.range);
        }
    }
}
