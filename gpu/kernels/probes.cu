// One stage's inner work each, and nothing else but its loads and stores, so that its instructions can be counted (docs/GPU.md). Never launched.
#include "scalar.cuh"
#include "tables.cuh"

#define PROBE extern "C" __global__ void __launch_bounds__(MATCH_THREADS)

// 64 cells: one row of the left bucket against 64 of the right one, in shared memory as it is there in use.
PROBE probe_match(const uint4 *left, const uint4 *right, u32 *out) {
    __shared__ uint4 rows[ROWS + TARGETS];
    rows[threadIdx.x] = right[threadIdx.x];
    __syncthreads();
    const uint4 low = left[2 * threadIdx.x], high = left[2 * threadIdx.x + 1];
    const u32 doubled[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    u32 hits[2] = {0, 0};
    Cells<1, TARGETS>::find(doubled, rows + threadIdx.x, hits);
    out[2 * threadIdx.x] = hits[0], out[2 * threadIdx.x + 1] = hits[1];
}

// One hash: the child of two entries that are in registers, with its metadata packed.
#define PROBE_HASH(table)                                                                                    \
    PROBE probe_hash_##table(const uint4 *left, const uint4 *right, uint4 *out) {                            \
        const uint4 l = left[threadIdx.x], r = right[threadIdx.x];                                           \
        const u32 left_metadata[3] = {l.x, l.y, l.z}, right_metadata[3] = {r.x, r.y, r.z};                   \
        u32 metadata[3];                                                                                     \
        const u32 y = child<20, table>(l.w, left_metadata, right_metadata, metadata);                        \
        out[threadIdx.x] = make_uint4(metadata[0], metadata[1], metadata[2], y);                             \
    }
PROBE_HASH(2)
PROBE_HASH(3)
PROBE_HASH(4)
PROBE_HASH(5)
PROBE_HASH(6)
PROBE_HASH(7)

struct ChachaKey {
    u32 words[8];
};

// One block of the keystream.
PROBE probe_chacha(const ChachaKey key, uint4 *out) {
    u32 words[16];
    chacha8_block(key.words, threadIdx.x, words);
#pragma unroll
    for (int i = 0; i < 4; i++)
        out[4 * threadIdx.x + i] = make_uint4(words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3]);
}

// One product of two scalars in registers.
PROBE probe_product(const Scalar *left, const Scalar *right, Scalar *out) { out[threadIdx.x] = left[threadIdx.x] * right[threadIdx.x]; }
