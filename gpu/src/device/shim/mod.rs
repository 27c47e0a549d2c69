//! The kernels on the CPU: the same sources, compiled as C++, behind the same seam as a card. For tests and conformance, not for speed.
//!
//! It is as unkind as a card may be: streams run beside each other on threads of their own, copies read and write host memory only when
//! their turn comes, fresh memory holds a pattern, a copy beyond an allocation loses the device. With a seed, streams and the blocks and
//! threads of kernels run in an order drawn from it.
//!
//! Owns: the device, its memory and [`Fault`]s that tests ask for. Never: what the kernels compute.

mod memory;
mod stream;
#[cfg(test)]
mod tests;

use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockWriteGuard};

use self::memory::{Memory, ShimBuffer};
use self::stream::ShimStream;
use super::{Device, DeviceBuffer, DeviceError, DeviceMemory, Registration, Stream};
use crate::interface::Layout;

/// Limit of the kernels' host for the threads of a launch.
const OS_THREADS_LIMIT: u32 = 64;

// `kernels/shim/shim.h`.
unsafe extern "C" {
    /// Numbers of a module, or null.
    fn shim_layout(k: u32) -> *const u64;
    /// Runs a kernel to its end; 0, or 1: bad number or size, 2: threads wait for each other for ever.
    fn shim_launch(
        k: u32,
        kernel: u32,
        grid_x: u32,
        grid_y: u32,
        args: *const c_void,
        schedule_seed: u64,
        os_threads: u32,
    ) -> i32;
}

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

/// What buffers, streams and marks share.
struct Shared {
    name: String,
    layout: Layout,
    options: ShimOptions,
    memory: Memory,
    faults: Mutex<Vec<Fault>>,
    launches: Counter,
    copies_out: Counter,
    lost: OnceLock<String>,
    gate: RwLock<()>,
}

/// Numbers calls from 1.
#[derive(Default)]
struct Counter(AtomicU64);

impl Counter {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Fails once the device is lost.
    fn check(&self) -> Result<(), DeviceError> {
        match self.lost.get() {
            Some(reason) => Err(DeviceError::Lost { device: self.name.clone(), reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// The first reason stays.
    fn lose(&self, reason: String) {
        self.lost.get_or_init(|| reason);
    }

    fn refused(&self, reason: String) -> DeviceError {
        DeviceError::Refused { device: self.name.clone(), reason }
    }

    /// What a fault makes of a call, if it was asked for.
    fn fault<T>(&self, find: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).iter().find_map(find)
    }
}
