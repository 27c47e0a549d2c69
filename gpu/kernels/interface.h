// What the host and the kernels agree on; `src/interface.rs` says the same in Rust. A module tells its sizes in `layout`, and the host refuses one
// whose sizes are not its own, so the two cannot drift apart unnoticed.
//
// A *slot* is the device memory of one record in flight (struct Slot in slot.cuh). A launch works on several records: blockIdx.y is the
// record's number in the launch, with slots[y], inputs[y] and results[y].
#pragma once
#include "types.h"

// Bumped with every change of meaning here.
constexpr u64 INTERFACE_VERSION = 1;

constexpr u32 RECORD_CHUNKS = 1 << 15;           // chunks of 32 bytes that a record has, and keeps when encoded
constexpr u32 S_BUCKETS = 1 << 16;               // chunks of a record after extension
constexpr u32 BITFIELD_WORDS = S_BUCKETS / 32;   // 8 KiB: which s-buckets hold an encoded chunk, LSB first
constexpr u32 RANK_ROWS = BITFIELD_WORDS + 1;    // ranks before each word, and after the last
constexpr u32 SPAN_CHUNKS = 256;                 // BLAKE3 chunks (1 KiB) of one span, hashed by one block
constexpr u32 RECORD_SPANS = 4;                  // spans of a record
constexpr u32 PROOF_BYTES = 160;

// One record of a launch. All members are device addresses or plain numbers.
struct RecordInput {
    u32 seed[8];        // evaluation seed, its bytes as they are
    u8* chunks;         // out: the encoded (or decoded) record, 1 MiB
    u32* bitfield;      // encoding: out, proving: in; BITFIELD_WORDS words
    u32* words;         // out, encoding only: the words of the bitfield, `column_stride` words apart
    u16* ranks;         // out, encoding only: encoded chunks before each word, `column_stride` u16 apart, RANK_ROWS of them
    u64 column_stride;  // records of the sector, rounded up
};

// Filled with zeros by `clear`.
struct RecordResult {
    u32 flags;            // RESULT_*
    u32 invalid;          // 0, or 32768 minus the first chunk that is not below the field's modulus
    u32 encoded_chunks;   // chunks that are XORed with a proof hash, at most 32768
    u32 reserved;
    u32 spans[RECORD_SPANS][8];  // BLAKE3 chaining values of the record's quarters, at chunk 0, 256, 512, 768
};

// A bucket, a list of matches or of equal y was longer than the kernels hold: the record must be done by the CPU.
constexpr u32 RESULT_OVERFLOW = 1;
// An encoded chunk came out as zeros, which counts as no proof (PROTOCOL 5.2): the record must be done by the CPU.
constexpr u32 RESULT_ZERO_CHUNK = 2;
// Proving: the bitfield has a bit where the table has no proof, or more than 32768 bits.
constexpr u32 RESULT_NO_PROOF = 4;

// Every kernel that works on records.
struct RecordArgs {
    void* slots;
    const RecordInput* inputs;
    RecordResult* results;
    const void* roots;  // struct Roots, filled once by `prepare_roots`
};

// `hash_spans`: block (x, y) hashes the 256 KiB at data + y * stride + x * 256 KiB, whose first chunk is number
// first_chunk + x * 256 of its message, into the 8 words at values + y * values_stride + x * 32 bytes.
struct HashArgs {
    const u8* data;
    u64 stride;
    u64 first_chunk;
    u8* values;
    u64 values_stride;
};

// `assemble`: brings chunks first_chunk .. first_chunk + chunks of a sector's s-buckets region (PROTOCOL 5.3) into order. They lie in s-buckets
// first_s_bucket .. first_s_bucket + gridDim.x * ASSEMBLE_S_BUCKETS.
struct AssembleArgs {
    const u8* records;   // 1 MiB each
    const u32* words;    // word w of record r at [w * column_stride + r]
    const u16* ranks;
    const u32* starts;   // chunks of the sector before each s-bucket, S_BUCKETS + 1 of them
    u8* out;
    u64 column_stride;
    u32 records_count;
    u32 first_s_bucket;
    u32 first_chunk;
    u32 chunks;
};
constexpr u32 ASSEMBLE_S_BUCKETS = 4;  // s-buckets of one block: one a warp

// `write_proofs`: thread i writes the proof of s_buckets[i] to proofs + 160 * i and 1 to found[i], or only 0 to found[i].
struct ProofArgs {
    const void* slot;
    const u16* s_buckets;
    u8* proofs;
    u8* found;
    u32 count;
    u32 reserved;
};

// In the order of the numbers by which a host names them. NAME(kernel, argument).
#define KERNELS(NAME)               \
    NAME(prepare_roots, RecordArgs) \
    NAME(clear, RecordArgs)         \
    NAME(extend_first, RecordArgs)  \
    NAME(extend_middle, RecordArgs) \
    NAME(extend_last, RecordArgs)   \
    NAME(table_1, RecordArgs)       \
    NAME(table_2, RecordArgs)       \
    NAME(table_3, RecordArgs)       \
    NAME(table_4, RecordArgs)       \
    NAME(table_5, RecordArgs)       \
    NAME(table_6, RecordArgs)       \
    NAME(table_7, RecordArgs)       \
    NAME(choose_chunks, RecordArgs) \
    NAME(encode_chunks, RecordArgs) \
    NAME(choose_stored, RecordArgs) \
    NAME(decode_chunks, RecordArgs) \
    NAME(write_proofs, ProofArgs)   \
    NAME(hash_spans, HashArgs)      \
    NAME(assemble, AssembleArgs)

// What a module says of itself: these numbers, then grid.x and threads of a block for each kernel in the order above (grid.x 0: the caller decides).
enum LayoutField {
    LAYOUT_VERSION,
    LAYOUT_K,
    LAYOUT_SLOT_BYTES,
    LAYOUT_SOURCE_AT,   // where in a slot the record of 1 MiB is uploaded to
    LAYOUT_PARITY_AT,   // where in a slot its parity chunks come out
    LAYOUT_ROOTS_BYTES,
    LAYOUT_INPUT_BYTES,
    LAYOUT_RESULT_BYTES,
    LAYOUT_FIELDS
};
