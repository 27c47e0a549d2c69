//! CUDA cards, through the driver's library alone: nothing of the toolkit is needed, neither to build nor to run.
//!
//! ```text
//!   driver_present() ─▶ cards() ─▶ CudaDevice::open(card, ptx) ─▶ allocate, register, stream
//! ```
//!
//! Owns: finding cards and every call of libcuda. Never: a call before [`driver_present`] said yes, a wait without an end, or a panic over
//! what the driver says.
//!
//! A card that hangs gives [`DeviceError::Lost`] after [`ANSWER_LIMIT`]. It may still write into host memory that `copy_out` was given,
//! should it wake up: whoever waited must never use that memory again.

mod cards;
mod context;
mod driver;
mod memory;
mod module;
mod pci;
pub mod ptx;
mod stream;
mod visible;
mod wait;

use std::sync::Arc;

pub use self::cards::{Card, NoCards, cards};
pub use self::driver::driver_present;
pub use self::pci::{NoPciId, PciId};
pub use self::visible::{Entry, Visible};
pub use self::wait::ANSWER_LIMIT;

use self::context::Context;
use self::memory::Buffer;
use self::module::Module;
use self::stream::CudaStream;
use super::{Device, DeviceBuffer, DeviceError, DeviceMemory, Registration, Stream};
use crate::interface::Layout;

/// A card with the kernels on it.
pub struct CudaDevice {
    module: Arc<Module>,
}

impl CudaDevice {
    /// Takes a card into use with kernels in PTX. The driver compiles them, which takes seconds the first time.
    ///
    /// # Errors
    /// [`DeviceError::Refused`] where there is no driver, the card is too old, or the kernels are not ours.
    pub fn open(card: &Card, ptx: &str) -> Result<Self, DeviceError> {
        let module = Arc::new(Module::load(Context::open(card)?, ptx)?);
        Ok(Self { module })
    }
}

impl Device for CudaDevice {
    fn name(&self) -> &str {
        self.module.context.name()
    }

    fn layout(&self) -> &Layout {
        &self.module.layout
    }

    fn memory(&self) -> Result<DeviceMemory, DeviceError> {
        self.module.context.memory()
    }

    fn allocate(&self, bytes: usize) -> Result<Arc<dyn DeviceBuffer>, DeviceError> {
        Ok(Arc::new(Buffer::allocate(&self.module.context, bytes)?))
    }

    unsafe fn register(&self, start: *mut u8, bytes: usize) -> Result<Box<dyn Registration>, DeviceError> {
        // SAFETY: the caller's promise.
        unsafe { memory::register(&self.module.context, start, bytes) }
    }

    fn stream(&self) -> Result<Box<dyn Stream>, DeviceError> {
        Ok(Box::new(CudaStream::new(&self.module)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_card_opens_without_a_driver() {
        if driver_present() {
            println!("skipped: there is a driver here");
            return;
        }
        let error = CudaDevice::open(&cards::tests::card((8, 9)), "").err().unwrap();
        let text = error.to_string();
        assert!(matches!(error, DeviceError::Refused { .. }) && text.contains("libcuda"), "{text}");
        assert_eq!(text.lines().count(), 1);
    }
}
