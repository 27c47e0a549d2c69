//! The kernels on the CPU: the same sources, compiled as C++, behind the same seam as a card. For tests and conformance, not for speed.
//!
//! It is as unkind as a card may be: streams run beside each other on threads of their own, copies read and write host memory only when
//! their turn comes, fresh memory holds a pattern, a copy beyond an allocation loses the device. With a seed, streams and the blocks and
//! threads of kernels run in an order drawn from it.
//!
//! Owns: the device, its memory and [`Fault`]s that tests ask for. Never: what the kernels compute.

mod buffer;
mod memory;
mod native;
mod shared;
mod stream;
#[cfg(test)]
mod tests;

pub use self::shared::{Fault, ShimOptions};

use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockWriteGuard};

use self::buffer::ShimBuffer;
use self::memory::Memory;
use self::native::shim_layout;
use self::shared::{Counter, Shared};
use self::stream::ShimStream;
use super::{Device, DeviceBuffer, DeviceError, DeviceMemory, Registration, Stream};
use crate::interface::Layout;

/// Limit of the kernels' host for the threads of a launch.
const OS_THREADS_LIMIT: u32 = 64;

/// The kernels on the CPU.
pub struct ShimDevice {
    shared: Arc<Shared>,
}

impl ShimDevice {
    /// A device of its own.
    pub fn new(options: ShimOptions) -> Result<Self, DeviceError> {
        let name = format!("CPU shim, K = {}", options.k);
        let refused = |reason: &str| DeviceError::Refused { device: name.clone(), reason: reason.to_owned() };
        if !(1..=OS_THREADS_LIMIT).contains(&options.os_threads) {
            return Err(refused("a launch has 1 to 64 threads"));
        }
        // SAFETY: takes any number.
        let numbers = unsafe { shim_layout(options.k) };
        if numbers.is_null() {
            return Err(refused("there are kernels for K = 16, 17 and 20 only"));
        }
        // SAFETY: `shim.h` promises that many numbers, which are never changed.
        let numbers = unsafe { &*numbers.cast::<[u64; Layout::NUMBERS]>() };
        let layout =
            Layout::parse(numbers).ok_or_else(|| refused("its kernels are not of this program's version"))?;
        let memory = Memory::new(options.memory_bytes);
        let faults = Mutex::default();
        let (launches, copies_out) = (Counter::default(), Counter::default());
        let (lost, gate) = (OnceLock::new(), RwLock::new(()));
        let shared = Shared { name, layout, options, memory, faults, launches, copies_out, lost, gate };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Asks for a fault. For tests.
    pub fn inject(&self, fault: Fault) {
        let (launches, copies_out) = (self.shared.launches.count(), self.shared.copies_out.count());
        let fault = match fault {
            Fault::LoseAtLaunch(number) => Fault::LoseAtLaunch(launches + number),
            Fault::RefuseLaunch(number) => Fault::RefuseLaunch(launches + number),
            Fault::FlipBit { copy_out, bit } => Fault::FlipBit { copy_out: copies_out + copy_out, bit },
        };
        self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    /// Waits for work that runs, then lets none run while the guard lives; calls go on and queue theirs. For tests.
    pub fn pause(&self) -> RwLockWriteGuard<'_, ()> {
        self.shared.gate.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device for ShimDevice {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn layout(&self) -> &Layout {
        &self.shared.layout
    }

    fn memory(&self) -> Result<DeviceMemory, DeviceError> {
        self.shared.check()?;
        Ok(self.shared.memory.usage())
    }

    fn allocate(&self, bytes: usize) -> Result<Arc<dyn DeviceBuffer>, DeviceError> {
        self.shared.check()?;
        Ok(Arc::new(ShimBuffer::new(&self.shared, bytes)?))
    }

    unsafe fn register(&self, _start: *mut u8, bytes: usize) -> Result<Box<dyn Registration>, DeviceError> {
        self.shared.check()?;
        if bytes == 0 {
            Err(self.shared.refused("no bytes to register".to_owned()))
        } else {
            Ok(Box::new(Registered))
        }
    }

    fn stream(&self) -> Result<Box<dyn Stream>, DeviceError> {
        self.shared.check()?;
        Ok(Box::new(ShimStream::new(&self.shared)?))
    }
}

/// Host memory is as quick as it gets.
struct Registered;

impl Registration for Registered {}
