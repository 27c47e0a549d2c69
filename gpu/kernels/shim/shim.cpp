// Launches of the kernels at K = 16, 17 and 20; see shim.h.
#include "shim.h"

#include <atomic>
#include <cstddef>
#include <cstring>
#include <numeric>
#include <thread>

#include "../kernels.cuh"

namespace {
struct Entry_ {
    void (*run)(const void *);
    uint32_t threads;
};

template <int K>
struct Module {
    static const Entry_ *kernels() {
#define SHIM_KERNEL(kernel, Args) {[](const void *args) { Kernels<K>::kernel(*(const Args *)args); }, Kernels<K>::kernel##_grid.threads},
        static const Entry_ all[] = {KERNELS(SHIM_KERNEL)};
        return all;
    }
    static const uint64_t *layout() {
#define LAYOUT_OF K
        static const u64 numbers[] = {LAYOUT_NUMBERS};
#undef LAYOUT_OF
        return (const uint64_t *)numbers;
    }
};

#define COUNT_KERNEL(kernel, Args) +1
constexpr uint32_t KERNEL_COUNT = KERNELS(COUNT_KERNEL);
constexpr uint32_t THREADS_MAX = 64;

const Entry_ *kernels_of(uint32_t k) {
    return k == 16 ? Module<16>::kernels() : k == 17 ? Module<17>::kernels() : k == 20 ? Module<20>::kernels() : nullptr;
}

uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull, x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return (x ^ x >> 31) | 1;
}

struct Launch {
    const Entry_ &kernel;
    uint32_t grid_x, grid_y;
    const void *args;
    uint64_t seed;
    std::vector<uint32_t> order;
    std::atomic<uint32_t> next{0};
    std::atomic<bool> failed{false};

    void work() {
        simt::Runner &runner = simt::runner;
        runner.kernel = kernel.run, runner.args = args;
        simt::grid_size = {grid_x, grid_y, 1}, simt::block_size = {kernel.threads, 1, 1};
        for (uint32_t i; !failed && (i = next++) < grid_x * grid_y;) {
            const uint32_t block = order.empty() ? i : order[i];
            simt::block_index = {block % grid_x, block / grid_x, 0};
            runner.random = seed ? mix(seed + block) : 0;
            if (!runner.run_block(kernel.threads)) failed = true;
        }
    }
};
}  // namespace

extern "C" const uint64_t *shim_layout(uint32_t k) {
    return k == 16 ? Module<16>::layout() : k == 17 ? Module<17>::layout() : k == 20 ? Module<20>::layout() : nullptr;
}

extern "C" int32_t shim_launch(uint32_t k, uint32_t kernel, uint32_t grid_x, uint32_t grid_y, const void *args, uint64_t schedule_seed, uint32_t os_threads) {
    const Entry_ *kernels = kernels_of(k);
    if (!kernels || kernel >= KERNEL_COUNT || grid_x == 0 || grid_y == 0 || (uint64_t)grid_x * grid_y >= 1u << 30) return 1;
    if (os_threads == 0 || os_threads > THREADS_MAX) return 1;
    Launch launch{kernels[kernel], grid_x, grid_y, args, schedule_seed, {}};
    if (schedule_seed) {
        launch.order.resize((size_t)grid_x * grid_y);
        std::iota(launch.order.begin(), launch.order.end(), 0u);
        uint64_t state = mix(schedule_seed ^ kernel);
        for (size_t i = launch.order.size(); i > 1; i--) std::swap(launch.order[i - 1], launch.order[(state = mix(state + i)) % i]);
    }
    std::vector<std::thread> others;
    for (uint32_t i = 1; i < os_threads; i++) others.emplace_back([&] { launch.work(); });
    launch.work();
    for (std::thread &other : others) other.join();
    return launch.failed ? 2 : 0;
}
