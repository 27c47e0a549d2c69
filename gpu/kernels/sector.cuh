// Work over whole sectors and records: BLAKE3 of long messages, and chunks into on-disk order (PROTOCOL 5.3).
#pragma once
#include "blake3.cuh"
#include "interface.h"

constexpr u32 ASSEMBLE_THREADS = 32 * ASSEMBLE_S_BUCKETS;

// A span of 256 chunks, one a thread, and the tree above them: 16 compressions a thread, then 255 for the block.
DEVICE void hash_span(const HashArgs &args) {
    __shared__ u32 values[SPAN_CHUNKS][8];
    const u32 thread = threadIdx.x;
    const u32 chunk = blockIdx.x * SPAN_CHUNKS + thread;
    const uint4 *data = (const uint4 *)(args.data + blockIdx.y * args.stride) + 64ull * chunk;
    u32 value[8], message[16];
    blake3_initial(value);
#pragma unroll 1
    for (u32 block = 0; block < 16; block++) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const uint4 words = data[4 * block + i];
            message[4 * i] = words.x, message[4 * i + 1] = words.y, message[4 * i + 2] = words.z, message[4 * i + 3] = words.w;
        }
        blake3_compress(value, message, args.first_chunk + chunk, 64, (block == 0 ? BLAKE3_CHUNK_START : 0) | (block == 15 ? BLAKE3_CHUNK_END : 0));
    }
    for (u32 i = 0; i < 8; i++) values[thread][i] = value[i];
#pragma unroll 1
    for (u32 parents = SPAN_CHUNKS / 2; parents > 0; parents /= 2) {
        __syncthreads();
        if (thread < parents) {
            for (u32 i = 0; i < 8; i++) message[i] = values[2 * thread][i], message[8 + i] = values[2 * thread + 1][i];
            blake3_initial(value);
            blake3_compress(value, message, 0, 64, BLAKE3_PARENT);
        }
        __syncthreads();
        if (thread < parents)
            for (u32 i = 0; i < 8; i++) values[thread][i] = value[i];
    }
    if (thread == 0) {
        u32 *out = (u32 *)(args.values + blockIdx.y * args.values_stride + blockIdx.x * 32);
        for (u32 i = 0; i < 8; i++) out[i] = value[i];
    }
}

// One warp an s-bucket: 32 records at a time say whether they have a chunk there, and each knows by the others before it where that goes.
DEVICE void assemble_s_bucket(const AssembleArgs &args) {
    const u32 s_bucket = args.first_s_bucket + blockIdx.x * ASSEMBLE_S_BUCKETS + threadIdx.x / 32, lane = threadIdx.x & 31;
    if (s_bucket >= S_BUCKETS || args.starts[s_bucket + 1] <= args.first_chunk || args.starts[s_bucket] >= args.first_chunk + args.chunks) return;
    const u64 row = s_bucket / 32 * args.column_stride;
    const u16 *totals = args.ranks + BITFIELD_WORDS * args.column_stride;
    u32 start = args.starts[s_bucket] - args.first_chunk;
    for (u32 first = 0; first < args.records_count; first += 32) {
        const u32 record = first + lane;
        u32 from = RECORD_CHUNKS;
        if (record < args.records_count) {
            const u32 word = args.words[row + record], below = args.ranks[row + record] + __popc(word & ((1u << s_bucket % 32) - 1));
            // Encoded chunks lie first, then those of the lowest s-buckets that are not encoded.
            from = word >> s_bucket % 32 & 1 ? below : totals[record] + (s_bucket - below);
        }
        const u32 users = __ballot_sync(~0u, from < RECORD_CHUNKS), to = start + __popc(users & ((1u << lane) - 1));
        if (from < RECORD_CHUNKS && to < args.chunks) {
            const uint4 *chunk = (const uint4 *)args.records + 2 * ((u64)record * RECORD_CHUNKS + from);
            uint4 *out = (uint4 *)args.out + 2ull * to;
            out[0] = chunk[0], out[1] = chunk[1];
        }
        start += __popc(users);
    }
}
