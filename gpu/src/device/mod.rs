//! A device that runs kernels: memory, streams, launches. Two are behind it: a CUDA device and, for tests, the same kernels on the CPU.
//!
//! Owns: the seam. Never: which kernels run in which order, which is the card's business.
#![allow(unsafe_code)]

pub mod cuda;
mod launch;
#[cfg(feature = "kernel-shim")]
pub mod shim;

use crate::interface::{Kernel, Layout};
use std::sync::Arc;

/// Address in a device's memory.
pub type DeviceAddress = u64;

/// One device. Threads may share it; each does its work on streams of its own.
pub trait Device: Send + Sync + 'static {
    /// What to call it in logs: model and PCI bus id.
    fn name(&self) -> &str;

    /// Sizes of the module that is loaded on it.
    fn layout(&self) -> &Layout;

    /// Bytes free and bytes in all.
    fn memory(&self) -> Result<DeviceMemory, DeviceError>;

    /// Memory of unknown content, aligned to 256 bytes; given back when the last handle is dropped.
    fn allocate(&self, bytes: usize) -> Result<Arc<dyn DeviceBuffer>, DeviceError>;

    /// Makes host memory quick to copy from and to. Where the device cannot, copies still work, at a lower speed, and this says why.
    /// The memory must stay mapped until the handle is dropped.
    ///
    /// # Safety
    /// `start..start + bytes` is mapped while the handle lives.
    unsafe fn register(&self, start: *mut u8, bytes: usize) -> Result<Box<dyn Registration>, DeviceError>;

    /// A new queue of work; streams run beside each other.
    fn stream(&self) -> Result<Box<dyn Stream>, DeviceError>;
}

/// Free and total memory of a device, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Free at this moment.
    pub free_bytes: usize,
    /// In all.
    pub total_bytes: usize,
}

/// Memory on a device.
pub trait DeviceBuffer: Send + Sync {
    /// Its first byte.
    fn address(&self) -> DeviceAddress;
    /// Its size.
    fn size_bytes(&self) -> usize;
}

/// Host memory known to a device.
pub trait Registration: Send + Sync {}

/// Work for a device, done in order. Calls return before the work is done.
///
/// What the work touches must stay as it is until [`Self::wait`] returned: that is the caller's promise in each unsafe method. After an error the device
/// is lost ([`DeviceError::Lost`]) or the call did nothing.
pub trait Stream: Send {
    /// Copies host memory to the device.
    ///
    /// # Safety
    /// `from..from + bytes` stays readable and unchanged, and `to..to + bytes` stays allocated and is not used by other streams, until the work is done.
    unsafe fn copy_in(&self, to: DeviceAddress, from: *const u8, bytes: usize) -> Result<(), DeviceError>;

    /// Copies device memory to the host.
    ///
    /// # Safety
    /// `to..to + bytes` stays writable and is touched by nobody, and `from..from + bytes` stays allocated, until the work is done.
    unsafe fn copy_out(&self, to: *mut u8, from: DeviceAddress, bytes: usize) -> Result<(), DeviceError>;

    /// Runs a kernel on `grid` blocks of as many threads as its layout says. `args` are the bytes of its argument.
    ///
    /// # Safety
    /// `args` is the kernel's argument type, and every address in it is good for what `kernels/interface.h` says the kernel does, until the work is done.
    unsafe fn launch(&self, kernel: Kernel, grid: (u32, u32), args: &[u8]) -> Result<(), DeviceError>;

    /// A point in the stream's work.
    fn mark(&self) -> Result<Box<dyn Mark>, DeviceError>;

    /// Waits until all work given so far is done.
    fn wait(&self) -> Result<(), DeviceError>;
}

/// A point in a stream's work.
pub trait Mark: Send {
    /// Whether the work before it is done.
    fn is_reached(&self) -> Result<bool, DeviceError>;
    /// Waits until the work before it is done.
    fn wait(&self) -> Result<(), DeviceError>;
    /// When it was reached, in milliseconds after `earlier`, a mark of the same device; both must have been reached.
    fn milliseconds_since(&self, earlier: &dyn Mark) -> Result<f32, DeviceError>;
    /// For `milliseconds_since`, which needs the marks of its own kind.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// What went wrong on a device, and what the operator can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// No more memory there.
    #[error(
        "{device}: no memory for {bytes} more bytes: lower GPU_CONCURRENCY, or stop what else uses the GPU"
    )]
    Memory {
        /// Which.
        device: String,
        /// Bytes asked for.
        bytes: usize,
    },
    /// It cannot go on; every later call fails too.
    #[error(
        "{device}: lost ({reason}): see `dmesg | grep Xid`; restart the process once the GPU works again"
    )]
    Lost {
        /// Which.
        device: String,
        /// What the driver says.
        reason: String,
    },
    /// A call was refused; the device can go on.
    #[error("{device}: {reason}")]
    Refused {
        /// Which.
        device: String,
        /// What the driver says.
        reason: String,
    },
}
