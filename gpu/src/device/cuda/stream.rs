//! Streams of a card and marks in them.

use std::any::Any;
use std::sync::Arc;

use cudarc::driver::{result, sys};

use super::context::Context;
use super::module::Module;
use crate::device::launch::Launch;
use crate::device::{DeviceAddress, DeviceError, Mark, Stream};
use crate::interface::Kernel;

/// A stream that waits for no other, the default stream included.
pub(super) struct CudaStream {
    module: Arc<Module>,
    stream: sys::CUstream,
}

// SAFETY: a handle of the driver, which takes it from any thread.
unsafe impl Send for CudaStream {}

impl CudaStream {
    /// A new one.
    pub fn new(module: &Arc<Module>) -> Result<Self, DeviceError> {
        module.context.enter()?;
        let stream = module.context.check(result::stream::create(result::stream::StreamKind::NonBlocking))?;
        Ok(Self { module: Arc::clone(module), stream })
    }

    fn context(&self) -> &Arc<Context> {
        &self.module.context
    }
}

impl Stream for CudaStream {
    unsafe fn copy_in(&self, to: DeviceAddress, from: *const u8, bytes: usize) -> Result<(), DeviceError> {
        self.context().enter()?;
        // SAFETY: the caller's promise.
        let call = unsafe { sys::cuMemcpyHtoDAsync_v2(to, from.cast(), bytes, self.stream) };
        self.context().check(call.result())
    }

    unsafe fn copy_out(&self, to: *mut u8, from: DeviceAddress, bytes: usize) -> Result<(), DeviceError> {
        self.context().enter()?;
        // SAFETY: the caller's promise.
        let call = unsafe { sys::cuMemcpyDtoHAsync_v2(to.cast(), from, bytes, self.stream) };
        self.context().check(call.result())
    }

    unsafe fn launch(&self, kernel: Kernel, grid: (u32, u32), args: &[u8]) -> Result<(), DeviceError> {
        self.context().enter()?;
        let launch = Launch::new(&self.module.layout, kernel, grid, args);
        let launch = launch.map_err(|reason| self.context().refused(reason))?;
        let (grid, block) = ((grid.0, grid.1, 1), (launch.threads, 1, 1));
        let mut parameters = [launch.argument().cast_mut().cast()];
        // SAFETY: the function takes one argument of the size that `Launch` checked, which the driver copies before it returns; what
        // the argument points to is the caller's promise.
        let call = unsafe {
            result::launch_kernel(self.module.function(kernel), grid, block, 0, self.stream, &mut parameters)
        };
        self.context().check(call)
    }

    fn mark(&self) -> Result<Box<dyn Mark>, DeviceError> {
        self.context().enter()?;
        let event = self.context().check(result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT))?;
        let mark = CudaMark { context: Arc::clone(self.context()), event };
        // SAFETY: event and stream are of this context and live.
        self.context().check(unsafe { result::event::record(event, self.stream) })?;
        Ok(Box::new(mark))
    }

    fn wait(&self) -> Result<(), DeviceError> {
        // SAFETY: the stream lives.
        self.context().wait(|| unsafe { sys::cuStreamQuery(self.stream) }.result())
    }
}

impl Drop for CudaStream {
    fn drop(&mut self) {
        // SAFETY: made in `new`; the driver ends what is still queued before it gives the stream's resources back.
        self.context().give_back("stream", || unsafe { result::stream::destroy(self.stream) });
    }
}

/// An event that was recorded once.
struct CudaMark {
    context: Arc<Context>,
    event: sys::CUevent,
}

// SAFETY: a handle of the driver, which takes it from any thread.
unsafe impl Send for CudaMark {}

impl Mark for CudaMark {
    fn is_reached(&self) -> Result<bool, DeviceError> {
        self.context.enter()?;
        // SAFETY: the event lives.
        self.context.reached(unsafe { result::event::query(self.event) })
    }

    fn wait(&self) -> Result<(), DeviceError> {
        // SAFETY: the event lives.
        self.context.wait(|| unsafe { result::event::query(self.event) })
    }

    fn milliseconds_since(&self, earlier: &dyn Mark) -> Result<f32, DeviceError> {
        self.context.enter()?;
        let earlier = earlier.as_any().downcast_ref::<Self>();
        let foreign = || self.context.refused("time between marks of different devices".to_owned());
        let earlier = earlier.filter(|mark| Arc::ptr_eq(&mark.context, &self.context)).ok_or_else(foreign)?;
        // SAFETY: both events live, are of this context and were recorded.
        self.context.check(unsafe { result::event::elapsed(earlier.event, self.event) })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for CudaMark {
    fn drop(&mut self) {
        // SAFETY: made in `mark`; the driver frees an event that is not reached yet once it is.
        self.context.give_back("mark", || unsafe { result::event::destroy(self.event) });
    }
}
