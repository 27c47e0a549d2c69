// Proof-of-space parameters (PROTOCOL 1) and the device memory of one record in flight.
//
// K = 20 is the network's; 16 and 17 make the same tables small enough for thousands of tests.
#pragma once
#include "device.h"
#include "interface.h"

constexpr int TABLES = 7;
constexpr u32 ROWS = 119;
constexpr u32 COLUMNS = 127;
constexpr u32 BUCKET_SIZE = ROWS * COLUMNS;  // values of y in a bucket: r = row * 127 + column
constexpr u32 TARGETS = 64;                  // rows below its own in which a left entry has a target
// Entries of a bucket that the kernels hold: 236 on average, standard deviation 15; consensus holds 512. More is RESULT_OVERFLOW.
constexpr u32 CAPACITY = 384;

template <int K>
struct Params {
    static constexpr int Y_BITS = K + 6;
    static constexpr u32 BUCKETS = ((1u << Y_BITS) + BUCKET_SIZE - 1) / BUCKET_SIZE;
    static constexpr u32 PLACES = BUCKETS * CAPACITY;
    // Bits of metadata of an entry.
    static constexpr int metadata_bits(int table) {
        return table == 1 ? K : table == 2 || table == 6 ? 2 * K : table == 3 || table == 4 ? 4 * K : table == 5 ? 3 * K : 0;
    }
};
static_assert(Params<20>::BUCKETS == 4441, "PROTOCOL 1");

// An entry of tables 2 to 6. `order`: where it came from: left bucket 13 bits, left rank 9, right rank 9. Comparing these compares positions as consensus
// numbers them. r_high: r in the upper 16 bits, then 16 + 32 + 32 bits of metadata.
struct alignas(16) Entry {
    u32 order, r_high, middle, low;
};

// An entry of table 1: r in the upper 16 bits, the low K - 6 bits of x below (the others are y's lowest).
typedef u32 FirstEntry;

// Of a place in the bucket and the one right of it.
DEVICE u32 pointer(u32 left_bucket, u32 left_rank, u32 right_rank) { return left_bucket << 18 | left_rank << 9 | right_rank; }
DEVICE u32 pointer_left(u32 pointer) { return (pointer >> 18) * CAPACITY + (pointer >> 9 & 511); }
DEVICE u32 pointer_right(u32 pointer) { return ((pointer >> 18) + 1) * CAPACITY + (pointer & 511); }

// 99 MB at K = 20.
template <int K>
struct Slot {
    static constexpr u32 PLACES = Params<K>::PLACES;
    u32 counts[TABLES - 1][(Params<K>::BUCKETS + 63) / 64 * 64];  // entries of each bucket of tables 1 to 6
    u64 best[S_BUCKETS];  // smallest of (low 6 bits of y << 32 | pointer) in table 7, or NO_PROOF
    Entry even[PLACES];   // tables 2, 4, 6: CAPACITY places a bucket, in order of arrival
    Entry odd[PLACES];    // tables 1 (as FirstEntry), 3, 5
    u64 pairs[PLACES];    // table 2 in order of rank: x of the left parent, x of the right one, K bits each
    u32 parents[4][PLACES];  // tables 3 to 6 in order of rank: pointers into the table before
    u8 source[RECORD_CHUNKS * 32];
    u8 parity[RECORD_CHUNKS * 32];
    u16 s_bucket_of[RECORD_CHUNKS];  // s-bucket of each chunk of the encoded record
    u32 encoded_chunks;              // of these, the first so many are encoded
    u32 padding[63];

    template <int TABLE>
    DEVICE Entry *entries() { return TABLE % 2 == 0 ? even : odd; }
    DEVICE FirstEntry *first_entries() { return (FirstEntry *)odd; }
};
constexpr u64 NO_PROOF = ~0ull;

template <int K>
DEVICE Slot<K> &slot_of(const RecordArgs &args) { return ((Slot<K> *)args.slots)[blockIdx.y]; }
DEVICE RecordResult &result_of(const RecordArgs &args) { return args.results[blockIdx.y]; }

// Slots and results ready for new records: 0.66 MB written a record.
constexpr u32 CLEAR_BLOCKS = 32, CLEAR_THREADS = 256;
template <int K>
DEVICE void clear_slot(const RecordArgs &args) {
    Slot<K> &slot = slot_of<K>(args);
    const u32 thread = blockIdx.x * CLEAR_THREADS + threadIdx.x, threads = CLEAR_BLOCKS * CLEAR_THREADS;
    u32 *counts = &slot.counts[0][0], *result = (u32 *)&result_of(args);
    for (u32 i = thread; i < sizeof slot.counts / 4; i += threads) counts[i] = 0;
    for (u32 i = thread; i < S_BUCKETS; i += threads) slot.best[i] = NO_PROOF;
    for (u32 i = thread; i < sizeof(RecordResult) / 4; i += threads) result[i] = 0;
}
