//! The kernels as loaded on a card.

use std::ffi::{CString, c_void};
use std::ptr;
use std::sync::Arc;

use cudarc::driver::{DriverError, result, sys};

use super::context::Context;
use super::driver::describe;
use crate::device::DeviceError;
use crate::interface::{Kernel, Layout};

/// Room for what the driver's compiler says of the PTX.
const LOG_BYTES: usize = 8192;
/// Name of the array with the module's sizes.
const LAYOUT_NAME: &str = "layout";
/// CUDA's limit for the threads of a block.
const BLOCK_LIMIT: u32 = 1024;

/// Kernels of one card.
pub(super) struct Module {
    pub context: Arc<Context>,
    pub layout: Layout,
    module: sys::CUmodule,
    functions: [sys::CUfunction; Kernel::ALL.len()],
}

// SAFETY: handles of the driver, which takes them from any thread; not changed after `load`.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

impl Module {
    /// Has the driver compile the kernels, which takes seconds the first time (it keeps the result in ~/.nv/ComputeCache).
    pub fn load(context: Context, ptx: &str) -> Result<Self, DeviceError> {
        context.enter()?;
        let text = CString::new(ptx).map_err(|_| context.refused("the PTX has a zero byte".to_owned()))?;
        let module = compile(&text).map_err(|error| context.refused(error))?;
        let no_functions = [ptr::null_mut(); Kernel::ALL.len()];
        let no_layout = Layout {
            k: 0,
            slot_bytes: 0,
            source_at: 0,
            parity_at: 0,
            roots_bytes: 0,
            grids: Default::default(),
        };
        // Made first, so that an error below unloads the module.
        let mut this =
            Self { context: Arc::new(context), layout: no_layout, module, functions: no_functions };
        this.layout = this.read_layout()?;
        for kernel in Kernel::ALL {
            this.functions[kernel as usize] = this.find(kernel)?;
        }
        Ok(this)
    }

    /// A kernel's handle, good while `self` lives.
    pub fn function(&self, kernel: Kernel) -> sys::CUfunction {
        self.functions[kernel as usize]
    }

    fn find(&self, kernel: Kernel) -> Result<sys::CUfunction, DeviceError> {
        let name = CString::new(kernel.name()).expect("names of kernels have no zero byte");
        // SAFETY: the module is loaded.
        let found = unsafe { result::module::get_function(self.module, name) };
        self.ours(found, kernel.name())
    }

    fn read_layout(&self) -> Result<Layout, DeviceError> {
        let name = CString::new(LAYOUT_NAME).expect("the name has no zero byte");
        // SAFETY: the module is loaded.
        let (address, bytes) =
            self.ours(unsafe { result::module::get_global(self.module, name) }, LAYOUT_NAME)?;
        let mut numbers = [0_u64; Layout::NUMBERS];
        if bytes != size_of_val(&numbers) {
            let reason = format!("its kernels have a layout of {bytes} bytes, not {}", size_of_val(&numbers));
            return Err(self.context.refused(reason));
        }
        // SAFETY: the array is as long as the buffer.
        self.context.check(unsafe { result::memcpy_dtoh_sync(&mut numbers, address) })?;
        let layout = Layout::parse(&numbers);
        let fits = |layout: &Layout| layout.grids.iter().all(|grid| (1..=BLOCK_LIMIT).contains(&grid.1));
        let wrong = || self.context.refused("its kernels are not of this program's version".to_owned());
        layout.filter(fits).ok_or_else(wrong)
    }

    /// Gives the lack of something in the module its name.
    fn ours<T>(&self, found: Result<T, DriverError>, name: &str) -> Result<T, DeviceError> {
        match found {
            Err(error) if error.0 == sys::CUresult::CUDA_ERROR_NOT_FOUND => {
                Err(self.context.refused(format!("its kernels lack {name}")))
            }
            other => self.context.check(other),
        }
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded once; streams that use its functions hold an `Arc` of it.
        self.context.give_back("kernels", || unsafe { result::module::unload(self.module) });
    }
}

/// Has the driver compile PTX for the current context's card; the error has the compiler's log.
fn compile(ptx: &CString) -> Result<sys::CUmodule, String> {
    use sys::CUjit_option as JitOption;
    let mut log = vec![0_u8; LOG_BYTES];
    let mut options = [JitOption::CU_JIT_ERROR_LOG_BUFFER, JitOption::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    let mut values = [log.as_mut_ptr().cast::<c_void>(), ptr::without_provenance_mut(LOG_BYTES)];
    let mut module = ptr::null_mut();
    let (image, count) = (ptx.as_ptr().cast(), options.len() as u32);
    // SAFETY: the text ends with a zero, there are as many values as options, and the log is as long as its option says.
    let call = unsafe {
        sys::cuModuleLoadDataEx(&raw mut module, image, count, options.as_mut_ptr(), values.as_mut_ptr())
    };
    let loaded = call.result().map(|()| module);
    loaded.map_err(|error| compile_error(error, &log))
}

/// One line of an error and the compiler's log.
fn compile_error(error: DriverError, log: &[u8]) -> String {
    let advice = match error.0 {
        sys::CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => "; install a newer NVIDIA driver",
        sys::CUresult::CUDA_ERROR_JIT_COMPILER_NOT_FOUND => {
            "; libnvidia-ptxjitcompiler.so.1 is missing from the driver"
        }
        sys::CUresult::CUDA_ERROR_JIT_COMPILATION_DISABLED => "; unset CUDA_DISABLE_PTX_JIT",
        _ => "",
    };
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).take(8).collect();
    let log = if lines.is_empty() { String::new() } else { format!(" [{}]", lines.join("; ")) };
    format!("the driver cannot compile the kernels: {}{log}{advice}", describe(error))
}
