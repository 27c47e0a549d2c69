// The module that the host loads: every kernel at the network's K = 20, and what the module says of itself.
#include "kernels.cuh"

#define LAYOUT_OF 20
extern "C" __device__ const u64 layout[] = {LAYOUT_NUMBERS};

#define KERNEL(kernel, Args)                                                                                                            \
    extern "C" __global__ void __launch_bounds__(Kernels<20>::kernel##_grid.threads, Kernels<20>::kernel##_grid.resident) kernel(const Args args) { \
        Kernels<20>::kernel(args);                                                                                                      \
    }
KERNELS(KERNEL)
