// CUDA device code on a CPU: a fiber for each CUDA thread, a block at a time on an OS thread.
//
// A fiber runs until it waits at a barrier or a warp collective, or ends; with a seed, atomics too may hand over, and who runs next is drawn, as is
// the order of blocks. Stricter than the hardware: a barrier wants every thread of the block, a collective every lane of the warp. If nobody
// can run on, the launch fails. Under ThreadSanitizer every fiber is a thread of its own that only barriers and collectives order, so unordered accesses
// to shared or device memory are reported as races.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>
#if SIMT_TSAN  // defined for a build whose kernels are under ThreadSanitizer; simt.cpp itself never is, since its fibers share it unordered
#include <sanitizer/tsan_interface.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#define __global__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __shared__ static thread_local

struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
using std::min;

namespace simt {
struct Index {
    unsigned x, y, z;
};
extern thread_local Index thread_index, block_index, block_size, grid_size;

// Where a fiber stands while it does not run.
struct Context {
#if defined(__x86_64__)
    void *stack_pointer;
#else
    ucontext_t registers;
#endif
    void *tsan_fiber = nullptr;
};

constexpr unsigned BLOCK_THREADS_MAX = 1024;

// Threads that wait for each other.
struct Meeting {
    unsigned count = 0;
    unsigned short waiting[BLOCK_THREADS_MAX];
};

// What an OS thread needs to run blocks.
struct Runner {
    std::vector<Context> fibers;
    std::vector<char *> stacks;
    // Fibers that can run on: a queue in a ring, or a bag to draw from.
    unsigned short ready[BLOCK_THREADS_MAX];
    unsigned ready_head = 0, ready_count = 0;
    Context home;
    Meeting block, warps[BLOCK_THREADS_MAX / 32];
    uint64_t lane_values[BLOCK_THREADS_MAX];
    unsigned threads = 0, current = 0, live = 0;
    uint64_t random = 0;  // 0: fixed order
    bool deadlock = false;
    void (*kernel)(const void *) = nullptr;
    const void *args = nullptr;

    ~Runner();
    bool run_block(unsigned threads);
    void meet(Meeting &meeting, unsigned size);
    void maybe_hand_over();
    uint64_t draw();

  private:
    void prepare(unsigned threads);
    void switch_to(Context &from, Context &to);
    void add_ready(unsigned fiber) { ready[(ready_head + ready_count++) % BLOCK_THREADS_MAX] = (unsigned short)fiber; }
    void run_next(Context &from);
    static void fiber_main();
};
extern thread_local Runner runner;

inline void meet_warp() {
    Runner &r = runner;
    const unsigned warp = r.current / 32;
    r.meet(r.warps[warp], 32);
}
// Every lane gives a value; then each may look at those of its warp.
template <typename Look>
inline auto exchange(uint64_t value, Look look) {
    Runner &r = runner;
    r.lane_values[r.current] = value;
    meet_warp();
    const auto result = look(&runner.lane_values[runner.current & ~31u]);
    meet_warp();
    return result;
}
}  // namespace simt

#define threadIdx simt::thread_index
#define blockIdx simt::block_index
#define blockDim simt::block_size
#define gridDim simt::grid_size

static inline void __syncthreads() { simt::runner.meet(simt::runner.block, simt::runner.threads); }
static inline unsigned __shfl_up_sync(unsigned, unsigned value, unsigned distance) {
    const unsigned lane = threadIdx.x & 31;
    return simt::exchange(value, [=](const uint64_t *lanes) { return (unsigned)lanes[lane >= distance ? lane - distance : lane]; });
}
static inline unsigned __ballot_sync(unsigned, bool vote) {
    return simt::exchange(vote, [](const uint64_t *lanes) {
        unsigned votes = 0;
        for (unsigned i = 0; i < 32; i++) votes |= (unsigned)lanes[i] << i;
        return votes;
    });
}
static inline unsigned atomicAdd(unsigned *at, unsigned value) {
    simt::runner.maybe_hand_over();
    return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}
static inline unsigned atomicOr(unsigned *at, unsigned value) {
    simt::runner.maybe_hand_over();
    return __atomic_fetch_or(at, value, __ATOMIC_RELAXED);
}
template <typename T>
static inline T shim_atomic_pick(T *at, T value, bool larger) {
    simt::runner.maybe_hand_over();
    T old = __atomic_load_n(at, __ATOMIC_RELAXED);
    while ((larger ? value > old : value < old) && !__atomic_compare_exchange_n(at, &old, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return old;
}
static inline unsigned long long atomicMin(unsigned long long *at, unsigned long long value) { return shim_atomic_pick(at, value, false); }
static inline unsigned atomicMax(unsigned *at, unsigned value) { return shim_atomic_pick(at, value, true); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __ffs(unsigned x) { return __builtin_ffs((int)x); }
static inline int __clz(unsigned x) { return x ? __builtin_clz(x) : 32; }
static inline unsigned __brev(unsigned x) {
    x = (x >> 1 & 0x55555555) | (x & 0x55555555) << 1;
    x = (x >> 2 & 0x33333333) | (x & 0x33333333) << 2;
    x = (x >> 4 & 0x0f0f0f0f) | (x & 0x0f0f0f0f) << 4;
    return __builtin_bswap32(x);
}
// The upper word of high:low shifted up, the lower word of it shifted down; by 0 to 31.
static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by) {
    return (unsigned)((((uint64_t)high << 32 | low) << (by & 31)) >> 32);
}
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
    return (unsigned)(((uint64_t)high << 32 | low) >> (by & 31));
}
// Byte i of the result is byte `selector >> 4i & 7` of b:a.
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
    const uint64_t bytes = (uint64_t)b << 32 | a;
    unsigned result = 0;
    for (int i = 0; i < 4; i++) result |= (unsigned)(bytes >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
    return result;
}
