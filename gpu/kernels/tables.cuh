// Tables 1 to 7 (PROTOCOL 1) without any sort. A bucket is a bitmap of 119 rows x 127 columns; the rank of an entry in it is a count of bits, corrected
// by the few entries that share their y; matching is an AND of rotated rows.
//
//   table_1      ChaCha8 ─▶ y, x ─▶ places of the bucket of y                                          writes 4.2 MB a record
//   table_T      bucket pair ─▶ bitmaps, ranks ─▶ cells with a match ─▶ matches ─▶ BLAKE3 ─▶ places     reads and writes 16.7 MB each
//                and the left bucket's pointers in order of rank, for whoever walks back               4.2 to 8.4 MB
//
// Work of tables 2 to 7 a record: 6.2 M hashes of ~450 + 165 instructions; 26.6 k pairs x 119 x 64 cells of ~10 instructions.
#pragma once
#include "blake3.cuh"
#include "chacha8.cuh"
#include "matching.cuh"

// One thread makes one block of the keystream; K threads' blocks are a whole number of values.
template <int K>
struct Table1 {
    static constexpr u32 THREADS = 8 * K, VALUES = 4096, BLOCKS = (1u << K) / VALUES;
};

template <int K>
DEVICE void push_entry(u32 *counts, u32 bucket, u32 &flags, u32 &place) {
    const u32 number = atomicAdd(&counts[bucket], 1u);
    if (number >= CAPACITY) atomicOr(&flags, RESULT_OVERFLOW);
    place = number < CAPACITY ? bucket * CAPACITY + number : ~0u;
}

template <int K>
DEVICE void make_table_1(const RecordArgs &args) {
    __shared__ u32 stream[Table1<K>::THREADS * 16 + 1];
    Slot<K> &slot = slot_of<K>(args);
    const u32 thread = threadIdx.x;
    u32 key[8], words[16];
    for (int i = 0; i < 8; i++) key[i] = args.inputs[blockIdx.y].seed[i];
    chacha8_block(key, blockIdx.x * Table1<K>::THREADS + thread, words);
    for (int i = 0; i < 16; i++) stream[thread * 16 + i] = swap_bytes(words[i]);
    if (thread == 0) stream[Table1<K>::THREADS * 16] = 0;
    __syncthreads();
    for (u32 i = thread; i < Table1<K>::VALUES; i += Table1<K>::THREADS) {
        const u32 x = blockIdx.x * Table1<K>::VALUES + i, at = i * K;
        const u32 bits = __funnelshift_l(stream[at / 32 + 1], stream[at / 32], at % 32) >> (32 - K);
        const u32 y = bits << 6 | x >> (K - 6), bucket = y / BUCKET_SIZE, r = y - bucket * BUCKET_SIZE;
        u32 place;
        push_entry<K>(slot.counts[0], bucket, result_of(args).flags, place);
        if (place != ~0u) slot.first_entries()[place] = r << 16 | (x & ((1u << (K - 6)) - 1));
    }
}

template <int K, int TABLE>
DEVICE OrderKey key_at(Slot<K> &slot, u32 place) {
    if (TABLE == 1) {
        const FirstEntry entry = slot.first_entries()[place];
        return {entry >> 16, entry & 0xffff};
    }
    const Entry *entry = slot.template entries<TABLE>() + place;
    return {entry->r_high >> 16, entry->order};
}

// An entry of bucket `bucket` as numbers: y, and metadata as limbs, the lowest first.
template <int K, int TABLE>
DEVICE u32 entry_at(Slot<K> &slot, u32 bucket, u32 place, u32 (&metadata)[3]) {
    if (TABLE == 1) {
        const FirstEntry entry = slot.first_entries()[place];
        const u32 y = bucket * BUCKET_SIZE + (entry >> 16);
        metadata[0] = (y & 63) << (K - 6) | (entry & 0xffff), metadata[1] = 0, metadata[2] = 0;
        return y;
    }
    const Entry entry = slot.template entries<TABLE>()[place];
    metadata[0] = entry.low, metadata[1] = entry.middle, metadata[2] = entry.r_high & 0xffff;
    return bucket * BUCKET_SIZE + (entry.r_high >> 16);
}

// Word I of the hash's input: y, left metadata, right metadata, one bit string.
template <int K, int TABLE, int I>
DEVICE u32 input_word(const u32 (&y)[1], const u32 (&left)[3], const u32 (&right)[3]) {
    constexpr int Y = Params<K>::Y_BITS, M = Params<K>::metadata_bits(TABLE - 1), END = 32 * (I + 1);
    return swap_bytes(bits_at<Y - END>(y) | bits_at<Y + M - END>(left) | bits_at<Y + 2 * M - END>(right));
}

// f_TABLE: y and metadata of the child of two entries of the table before.
template <int K, int TABLE>
DEVICE u32 child(u32 left_y, const u32 (&left)[3], const u32 (&right)[3], u32 (&metadata)[3]) {
    constexpr int Y = Params<K>::Y_BITS, M = Params<K>::metadata_bits(TABLE - 1), NEW = Params<K>::metadata_bits(TABLE);
    const u32 y[1] = {left_y};
    const u32 message[16] = {
        input_word<K, TABLE, 0>(y, left, right), input_word<K, TABLE, 1>(y, left, right), input_word<K, TABLE, 2>(y, left, right),
        input_word<K, TABLE, 3>(y, left, right), input_word<K, TABLE, 4>(y, left, right), input_word<K, TABLE, 5>(y, left, right),
    };
    static_assert(Y + 2 * M <= 6 * 32, "six words of input");
    u32 hash[8];
    blake3_initial(hash);
    blake3_compress(hash, message, 0, (Y + 2 * M + 7) / 8, BLAKE3_CHUNK_START | BLAKE3_CHUNK_END | BLAKE3_ROOT);
    if (TABLE <= 3) {
        metadata[0] = right[0] | bits_at<-M>(left), metadata[1] = right[1] | bits_at<32 - M>(left), metadata[2] = right[2] | bits_at<64 - M>(left);
    } else {
        const u32 bits[4] = {swap_bytes(hash[3]), swap_bytes(hash[2]), swap_bytes(hash[1]), swap_bytes(hash[0])};
        constexpr int FROM = 128 - Y - NEW;
        metadata[0] = bits_at<FROM>(bits), metadata[1] = bits_at<FROM + 32>(bits), metadata[2] = bits_at<FROM + 64>(bits);
        // Above the metadata are bits of y.
        metadata[0] &= NEW >= 32 ? ~0u : (1u << (NEW & 31)) - 1;
        metadata[1] &= NEW >= 64 ? ~0u : NEW <= 32 ? 0 : (1u << (NEW & 31)) - 1;
        metadata[2] &= NEW >= 96 ? ~0u : NEW <= 64 ? 0 : (1u << (NEW & 31)) - 1;
    }
    return swap_bytes(hash[0]) >> (32 - Y);
}

// Table 7 keeps the first entry of each s-bucket only: those are the targets whose low K - 16 bits are zero (PROTOCOL 1, "Lookup").
template <int K>
DEVICE void keep_best(Slot<K> &slot, u32 y, u32 pointer) {
    const u32 challenge = (y >> 6) << (32 - K);
    if ((challenge & 0xffff) == 0) atomicMin(&slot.best[swap_bytes(challenge) & 0xffff], (u64)(y & 63) << 32 | pointer);
}

// The left bucket's pointers, or x values, in order of rank.
template <int K, int TABLE>
DEVICE void keep_order(Slot<K> &slot, const Bucket &left, u32 bucket, u32 entries) {
    if constexpr (TABLE != 1) {
#pragma unroll 1
        for (u32 rank = threadIdx.x; rank < entries; rank += MATCH_THREADS) {
            const Entry &entry = slot.template entries<TABLE>()[bucket * CAPACITY + left.place_of[rank]];
            if constexpr (TABLE == 2)
                slot.pairs[bucket * CAPACITY + rank] = (u64)entry.middle << 32 | entry.low;
            else
                slot.parents[TABLE - 3][bucket * CAPACITY + rank] = entry.order;
        }
    }
}

template <int K, int TABLE>
DEVICE void push_child(Slot<K> &slot, u32 &flags, const MatchMemory &memory, u32 parity, u32 bucket, u32 match) {
    const u32 left_rank = match >> 9, right_rank = match & 511;
    u32 left[3], right[3], metadata[3];
    const u32 left_place = bucket * CAPACITY + memory.buckets[parity].place_of[left_rank];
    const u32 right_place = (bucket + 1) * CAPACITY + memory.buckets[parity ^ 1].place_of[right_rank];
    const u32 left_y = entry_at<K, TABLE - 1>(slot, bucket, left_place, left);
    entry_at<K, TABLE - 1>(slot, bucket + 1, right_place, right);
    const u32 y = child<K, TABLE>(left_y, left, right, metadata);
    const u32 from = pointer(bucket, left_rank, right_rank);
    if (TABLE == 7) return keep_best<K>(slot, y, from);
    const u32 to = y / BUCKET_SIZE;
    u32 place;
    push_entry<K>(slot.counts[TABLE - 1 < TABLES - 1 ? TABLE - 1 : 0], to, flags, place);
    if (place != ~0u) slot.template entries<TABLE>()[place] = {from, (y - to * BUCKET_SIZE) << 16 | metadata[2], metadata[1], metadata[0]};
}

// Table TABLE out of the one before: this block does STRIP bucket pairs, so that each bucket but the first is built once.
template <int K, int TABLE>
DEVICE void make_table(const RecordArgs &args) {
    __shared__ MatchMemory memory;
    Slot<K> &slot = slot_of<K>(args);
    u32 &flags = result_of(args).flags;
    const u32 *counts = slot.counts[TABLE - 2];
    const auto load = [&](u32 place) { return key_at<K, TABLE - 1>(slot, place); };
    const auto entries_of = [&](u32 bucket) { return bucket < Params<K>::BUCKETS ? min(counts[bucket], CAPACITY) : 0u; };
    const u32 first = blockIdx.x * STRIP, end = min(first + STRIP, Params<K>::BUCKETS);
    u32 left_entries = entries_of(first);
    clear_places(memory);
    build_bucket(memory, memory.buckets[first & 1], flags, first * CAPACITY, left_entries, load);
    __syncthreads();
#pragma unroll 1
    for (u32 bucket = first; bucket < end; bucket++) {
        const u32 parity = bucket & 1, right_entries = entries_of(bucket + 1);
        build_bucket(memory, memory.buckets[parity ^ 1], flags, (bucket + 1) * CAPACITY, right_entries, load);
        keep_order<K, TABLE - 1>(slot, memory.buckets[parity], bucket, left_entries);
        const u32 matches = match_buckets(memory, parity, flags);
#pragma unroll 1
        for (u32 i = threadIdx.x; i < matches; i += MATCH_THREADS) push_child<K, TABLE>(slot, flags, memory, parity, bucket, memory.matches[i]);
        left_entries = right_entries;
        __syncthreads();
    }
}
