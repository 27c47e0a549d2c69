// The CUDA language as the kernels use it: from the compiler, or from the shim that runs them on a CPU.
#pragma once
#ifdef FARMER_SHIM
#include "shim/simt.h"
#endif
#include "types.h"

#define DEVICE __device__ __forceinline__

DEVICE u32 rotate_right(u32 x, int by) { return __funnelshift_r(x, x, by); }
// Bytes the other way round.
DEVICE u32 swap_bytes(u32 x) { return __byte_perm(x, 0, 0x0123); }

// Bits S .. S + 31 of the number whose 32-bit limbs, the lowest first, are `limbs`; zeros beyond its ends. S may be negative: shifted up. One
// instruction, since S is known when compiling.
template <int S, int N>
DEVICE u32 bits_at(const u32 (&limbs)[N]) {
    constexpr int low = S >= 0 ? S / 32 : -((31 - S) / 32), by = S - 32 * low;
    const u32 first = low >= 0 && low < N ? limbs[low >= 0 && low < N ? low : 0] : 0;
    const u32 second = low + 1 >= 0 && low + 1 < N ? limbs[low + 1 >= 0 && low + 1 < N ? low + 1 : 0] : 0;
    return by == 0 ? first : __funnelshift_r(first, second, by);
}
