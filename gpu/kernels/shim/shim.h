// The kernels on the CPU, for a host: the same launches as on a device, done when the call returns.
#pragma once
#include <cstdint>

extern "C" {
// What the module for this K says of itself (LayoutField, grids); null unless K is 16, 17 or 20.
const uint64_t *shim_layout(uint32_t k);

// Runs kernel number `kernel` of KERNELS on grid_x x grid_y blocks, over `os_threads` threads. With schedule_seed 0 threads and blocks run in a fixed order, else in
// one drawn from it. 0, or: 1 no such kernel, K or grid; 2 threads waited for each other for ever.
int32_t shim_launch(uint32_t k, uint32_t kernel, uint32_t grid_x, uint32_t grid_y, const void *args, uint64_t schedule_seed, uint32_t os_threads);
}
