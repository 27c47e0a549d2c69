// The module that the host loads: every kernel at the network's K = 20, and what the module says of itself. Checks on a
// card under NVIDIA's sanitizer, which slows it down, have a smaller K: -DLAYOUT_OF=17.
#include "kernels.cuh"

#ifndef LAYOUT_OF
#define LAYOUT_OF 20
#endif
extern "C" __device__ const u64 layout[] = {LAYOUT_NUMBERS};

#define KERNEL(kernel, Args)                                                                                                            \
    extern "C" __global__ void __launch_bounds__(Kernels<LAYOUT_OF>::kernel##_grid.threads, Kernels<LAYOUT_OF>::kernel##_grid.resident) kernel(const Args args) { \
        Kernels<LAYOUT_OF>::kernel(args);                                                                                                      \
    }
KERNELS(KERNEL)
