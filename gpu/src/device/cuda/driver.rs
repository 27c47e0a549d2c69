//! The driver's library: whether it is here, its version, what its errors mean.
//!
//! cudarc panics when a function is called and libcuda is missing, so every way into this module's siblings begins at [`driver_present`].
//! Codes of drivers newer than the bindings are all below 1000, the range that the bindings' type allows.

use std::ffi::CStr;
use std::sync::OnceLock;

use cudarc::driver::{DriverError, sys};

/// Whether libcuda is here. Nothing else of the driver may be called before this returned true.
pub fn driver_present() -> bool {
    static PRESENT: OnceLock<bool> = OnceLock::new();
    // SAFETY: opens a library whose initialisers are the driver's own; every CUDA program does the same.
    *PRESENT.get_or_init(|| unsafe { sys::is_culib_present() })
}

/// CUDA version of the driver, (12, 4) for 12.4.
pub(super) fn cuda_version() -> Result<(u32, u32), DriverError> {
    let mut version = 0;
    // SAFETY: writes one int, and may be called before `cuInit`.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result()?;
    let version = u32::try_from(version).unwrap_or(0);
    Ok((version / 1000, version % 1000 / 10))
}

/// The driver's own version, as `nvidia-smi` shows it.
pub(super) fn driver_version() -> Option<String> {
    let text = std::fs::read_to_string("/sys/module/nvidia/version").ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Name, number and meaning of an error.
pub(super) fn describe(error: DriverError) -> String {
    let text = |found: Result<&CStr, DriverError>| found.map(|text| text.to_string_lossy().into_owned()).ok();
    let code = error.0 as u32;
    match (text(error.error_name()), text(error.error_string())) {
        (Some(name), Some(meaning)) => format!("{name} ({code}): {meaning}"),
        _ => format!("CUDA error {code}"),
    }
}

/// Whether a context that gave this error gives only errors from then on, so that the card is lost for this process.
pub(super) fn is_fatal(error: DriverError) -> bool {
    use sys::CUresult as Code;
    /// Codes that the bindings of CUDA 12.0 do not have: CONTAINED, TENSOR_MEMORY_LEAK.
    const NEWER: [u32; 2] = [226, 721];
    NEWER.contains(&(error.0 as u32))
        || matches!(
            error.0,
            Code::CUDA_ERROR_DEINITIALIZED
                | Code::CUDA_ERROR_DEVICE_UNAVAILABLE
                | Code::CUDA_ERROR_ECC_UNCORRECTABLE
                | Code::CUDA_ERROR_NVLINK_UNCORRECTABLE
                | Code::CUDA_ERROR_ILLEGAL_ADDRESS
                | Code::CUDA_ERROR_LAUNCH_TIMEOUT
                | Code::CUDA_ERROR_CONTEXT_IS_DESTROYED
                | Code::CUDA_ERROR_ASSERT
                | Code::CUDA_ERROR_HARDWARE_STACK_ERROR
                | Code::CUDA_ERROR_ILLEGAL_INSTRUCTION
                | Code::CUDA_ERROR_MISALIGNED_ADDRESS
                | Code::CUDA_ERROR_INVALID_ADDRESS_SPACE
                | Code::CUDA_ERROR_INVALID_PC
                | Code::CUDA_ERROR_LAUNCH_FAILED
                | Code::CUDA_ERROR_MPS_RPC_FAILURE
                | Code::CUDA_ERROR_MPS_CLIENT_TERMINATED
                | Code::CUDA_ERROR_EXTERNAL_DEVICE
                // What a card gives that has fallen off the bus.
                | Code::CUDA_ERROR_UNKNOWN
        )
}

/// What the operator can do when the driver does not start, beyond what its own text says.
pub(super) fn advice(error: DriverError) -> &'static str {
    use sys::CUresult as Code;
    match error.0 {
        Code::CUDA_ERROR_STUB_LIBRARY => "libcuda is the toolkit's stub: take it off LD_LIBRARY_PATH",
        Code::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => {
            "libcuda and the kernel module differ: reboot after a driver update"
        }
        Code::CUDA_ERROR_SYSTEM_NOT_READY => "start nvidia-fabricmanager",
        Code::CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE => {
            "take the cuda-compat package's libcuda off LD_LIBRARY_PATH"
        }
        _ => "see whether `nvidia-smi` works, and `dmesg | grep -i nvrm`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sys::CUresult as Code;

    #[test]
    fn errors_that_poison_a_context_are_told_from_others() {
        for code in
            [Code::CUDA_ERROR_ILLEGAL_ADDRESS, Code::CUDA_ERROR_LAUNCH_FAILED, Code::CUDA_ERROR_UNKNOWN]
        {
            assert!(is_fatal(DriverError(code)), "{code:?}");
        }
        for code in [
            Code::CUDA_ERROR_OUT_OF_MEMORY,
            Code::CUDA_ERROR_INVALID_VALUE,
            Code::CUDA_ERROR_NOT_READY,
            Code::CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED,
            Code::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES,
        ] {
            assert!(!is_fatal(DriverError(code)), "{code:?}");
        }
    }
}
