// From table 7 to the chunks of a record: which s-buckets it uses (PROTOCOL 5.2), their proofs, and the XOR with the proofs' hashes.
#pragma once
#include "blake3.cuh"
#include "slot.cuh"

constexpr u32 CHOOSE_THREADS = 1024, CHOOSE_WARPS = CHOOSE_THREADS / 32;
constexpr u32 XOR_THREADS = 128, XOR_BLOCKS = RECORD_CHUNKS / XOR_THREADS;
constexpr u32 PROOF_THREADS = 128;

struct ChooseMemory {
    u32 words[BITFIELD_WORDS];
    u32 before[BITFIELD_WORDS + 1];
    u32 warp_sums[CHOOSE_WARPS];
};

// Fills `before` with the set bits before each word, and after the last.
DEVICE void count_words(ChooseMemory &memory) {
    const u32 lane = threadIdx.x & 31, warp = threadIdx.x / 32;
    const u32 first = __popc(memory.words[2 * threadIdx.x]), second = __popc(memory.words[2 * threadIdx.x + 1]);
    u32 sum = first + second;
#pragma unroll
    for (u32 distance = 1; distance < 32; distance *= 2) {
        const u32 other = __shfl_up_sync(~0u, sum, distance);
        if (lane >= distance) sum += other;
    }
    if (lane == 31) memory.warp_sums[warp] = sum;
    __syncthreads();
    for (u32 i = 0; i < warp; i++) sum += memory.warp_sums[i];
    memory.before[2 * threadIdx.x] = sum - second - first;
    memory.before[2 * threadIdx.x + 1] = sum - second;
    if (threadIdx.x == CHOOSE_THREADS - 1) memory.before[BITFIELD_WORDS] = sum;
    __syncthreads();
}

// Leaves the first RECORD_CHUNKS bits and clears the others.
DEVICE void keep_first_bits(ChooseMemory &memory) {
    for (u32 word = threadIdx.x; word < BITFIELD_WORDS; word += CHOOSE_THREADS) {
        u32 bits = memory.words[word];
        const u32 before = min(memory.before[word], RECORD_CHUNKS);
        while (before + __popc(bits) > RECORD_CHUNKS) bits &= ~(0x80000000u >> __clz(bits));
        memory.words[word] = bits;
        memory.before[word] = before;
    }
    if (threadIdx.x == 0) memory.before[BITFIELD_WORDS] = min(memory.before[BITFIELD_WORDS], RECORD_CHUNKS);
    __syncthreads();
}

// Lists the s-bucket of each chunk: encoded ones first, then, where there are too few, the lowest s-buckets that are not encoded.
template <int K>
DEVICE void list_chunks(ChooseMemory &memory, Slot<K> &slot, RecordResult &result) {
    const u32 lane = threadIdx.x & 31, encoded = memory.before[BITFIELD_WORDS];
    for (u32 word = threadIdx.x / 32; word < BITFIELD_WORDS; word += CHOOSE_WARPS) {
        const u32 bits = memory.words[word], s_bucket = word * 32 + lane;
        const u32 rank = memory.before[word] + __popc(bits & ((1u << lane) - 1)), free_rank = s_bucket - rank;
        if (bits >> lane & 1)
            slot.s_bucket_of[rank] = (u16)s_bucket;
        else if (free_rank < RECORD_CHUNKS - encoded)
            slot.s_bucket_of[encoded + free_rank] = (u16)s_bucket;
    }
    if (threadIdx.x == 0) slot.encoded_chunks = result.encoded_chunks = encoded;
}

// For encoding: the first 32768 s-buckets with a proof. One block a record.
template <int K>
DEVICE void choose_with_proofs(const RecordArgs &args) {
    __shared__ ChooseMemory memory;
    Slot<K> &slot = slot_of<K>(args);
    const RecordInput &input = args.inputs[blockIdx.y];
    for (u32 word = threadIdx.x / 32; word < BITFIELD_WORDS; word += CHOOSE_WARPS) {
        const u32 bits = __ballot_sync(~0u, slot.best[word * 32 + (threadIdx.x & 31)] != NO_PROOF);
        if ((threadIdx.x & 31) == 0) memory.words[word] = bits;
    }
    __syncthreads();
    count_words(memory);
    keep_first_bits(memory);
    list_chunks<K>(memory, slot, result_of(args));
    for (u32 word = threadIdx.x; word < BITFIELD_WORDS; word += CHOOSE_THREADS) {
        input.bitfield[word] = memory.words[word];
        input.words[word * input.column_stride] = memory.words[word];
        input.ranks[word * input.column_stride] = (u16)memory.before[word];
    }
    if (threadIdx.x == 0) input.ranks[BITFIELD_WORDS * input.column_stride] = (u16)memory.before[BITFIELD_WORDS];
}

// For proving: the s-buckets that the stored record says it uses.
template <int K>
DEVICE void choose_with_bitfield(const RecordArgs &args) {
    __shared__ ChooseMemory memory;
    Slot<K> &slot = slot_of<K>(args);
    const RecordInput &input = args.inputs[blockIdx.y];
    for (u32 word = threadIdx.x / 32; word < BITFIELD_WORDS; word += CHOOSE_WARPS) {
        const u32 proofs = __ballot_sync(~0u, slot.best[word * 32 + (threadIdx.x & 31)] != NO_PROOF);
        if ((threadIdx.x & 31) == 0) {
            const u32 bits = input.bitfield[word];
            if (bits & ~proofs) atomicOr(&result_of(args).flags, RESULT_NO_PROOF);
            memory.words[word] = bits & proofs;
        }
    }
    __syncthreads();
    count_words(memory);
    if (threadIdx.x == 0 && memory.before[BITFIELD_WORDS] > RECORD_CHUNKS) atomicOr(&result_of(args).flags, RESULT_NO_PROOF);
    keep_first_bits(memory);
    list_chunks<K>(memory, slot, result_of(args));
}

// Doubles a row of pointers into table T into pointers into the table before; `parents` are those of table T. COUNT is how many there are, at the
// front; the outcome is in order, left before right.
template <int COUNT>
DEVICE void walk_back(u32 (&pointers)[32], const u32 *parents) {
    u32 next[2 * COUNT];
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        next[2 * i] = parents[pointer_left(pointers[i])];
        next[2 * i + 1] = parents[pointer_right(pointers[i])];
    }
#pragma unroll
    for (int i = 0; i < 2 * COUNT; i++) pointers[i] = next[i];
}

template <int K>
struct Proof {
    static constexpr int WORDS = 2 * K;  // 64 values of K bits
    static constexpr int BYTES = 4 * WORDS;
};

// The proof of an s-bucket that has one, as words whose bytes are in order: 31 pointers and 32 pairs of x are gathered, from 41 MB.
template <int K>
DEVICE void proof_of(const Slot<K> &slot, u32 s_bucket, u32 (&words)[48]) {
    u32 pointers[32];
    pointers[0] = (u32)slot.best[s_bucket];
    walk_back<1>(pointers, slot.parents[3]);
    walk_back<2>(pointers, slot.parents[2]);
    walk_back<4>(pointers, slot.parents[1]);
    walk_back<8>(pointers, slot.parents[0]);
#pragma unroll
    for (int i = 0; i < 48; i++) words[i] = 0;
#pragma unroll
    for (int i = 0; i < 32; i++) {
        const u64 pair = slot.pairs[i % 2 == 0 ? pointer_left(pointers[i / 2]) : pointer_right(pointers[i / 2])];
        // 2K bits, the most significant first, over two or three words.
        const int word = 2 * K * i / 32, bit = 2 * K * i % 32;
        const u64 high = pair << (64 - 2 * K) >> bit;
        words[word] |= (u32)(high >> 32);
        words[word + 1] |= (u32)high;
        if (bit + 2 * K > 64) words[word + 2] |= (u32)(pair << (64 - 2 * K) << (64 - bit & 63) >> 32);
    }
#pragma unroll
    for (int i = 0; i < 48; i++) words[i] = swap_bytes(words[i]);
}

// BLAKE3 of a proof: two or three blocks of one chunk.
template <int K>
DEVICE void hash_proof(const u32 (&words)[48], u32 (&hash)[8]) {
    constexpr int BLOCKS = (Proof<K>::BYTES + 63) / 64;
    blake3_initial(hash);
#pragma unroll
    for (int block = 0; block < BLOCKS; block++) {
        u32 message[16];
#pragma unroll
        for (int i = 0; i < 16; i++) message[i] = words[block * 16 + i];
        const bool last = block + 1 == BLOCKS;
        blake3_compress(hash, message, 0, last ? Proof<K>::BYTES - block * 64 : 64, (block == 0 ? BLAKE3_CHUNK_START : 0) | (last ? BLAKE3_CHUNK_END | BLAKE3_ROOT : 0));
    }
}

DEVICE void xor_chunk(uint4 (&chunk)[2], const u32 (&hash)[8]) {
    chunk[0].x ^= hash[0], chunk[0].y ^= hash[1], chunk[0].z ^= hash[2], chunk[0].w ^= hash[3];
    chunk[1].x ^= hash[4], chunk[1].y ^= hash[5], chunk[1].z ^= hash[6], chunk[1].w ^= hash[7];
}

DEVICE bool is_zero(const uint4 (&chunk)[2]) {
    return (chunk[0].x | chunk[0].y | chunk[0].z | chunk[0].w | chunk[1].x | chunk[1].y | chunk[1].z | chunk[1].w) == 0;
}

// One thread a chunk: encoding takes it from the extended record, decoding from the stored one.
template <int K, bool ENCODE>
DEVICE void xor_chunks(const RecordArgs &args) {
    const Slot<K> &slot = slot_of<K>(args);
    const u32 i = blockIdx.x * XOR_THREADS + threadIdx.x, s_bucket = slot.s_bucket_of[i];
    const uint4 *from = (const uint4 *)(ENCODE && s_bucket % 2 ? slot.parity : slot.source) + 2 * (ENCODE ? s_bucket / 2 : i);
    uint4 chunk[2] = {from[0], from[1]};
    if (i < slot.encoded_chunks) {
        u32 words[48], hash[8];
        proof_of<K>(slot, s_bucket, words);
        hash_proof<K>(words, hash);
        xor_chunk(chunk, hash);
        if (ENCODE && is_zero(chunk)) atomicOr(&result_of(args).flags, RESULT_ZERO_CHUNK);
    }
    uint4 *to = (uint4 *)args.inputs[blockIdx.y].chunks + 2 * i;
    to[0] = chunk[0], to[1] = chunk[1];
}

template <int K>
DEVICE void write_whole_proofs(const ProofArgs &args) {
    const Slot<K> &slot = *(const Slot<K> *)args.slot;
    const u32 i = blockIdx.x * PROOF_THREADS + threadIdx.x;
    if (i >= args.count) return;
    const u32 s_bucket = args.s_buckets[i];
    args.found[i] = slot.best[s_bucket] != NO_PROOF;
    if (slot.best[s_bucket] == NO_PROOF) return;
    u32 words[48];
    proof_of<K>(slot, s_bucket, words);
    u32 *to = (u32 *)(args.proofs + i * Proof<K>::BYTES);
#pragma unroll
    for (int word = 0; word < Proof<K>::WORDS; word++) to[word] = words[word];
}
