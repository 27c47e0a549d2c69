//! What the kernels' host, which is C++, offers: `kernels/shim/shim.h`.

use std::ffi::c_void;

unsafe extern "C" {
    /// Numbers of a module, or null.
    pub fn shim_layout(k: u32) -> *const u64;
    /// Runs a kernel to its end; 0, or 1: bad number or size, 2: threads wait for each other for ever.
    pub fn shim_launch(
        k: u32,
        kernel: u32,
        grid_x: u32,
        grid_y: u32,
        args: *const c_void,
        schedule_seed: u64,
        os_threads: u32,
    ) -> i32;
}
