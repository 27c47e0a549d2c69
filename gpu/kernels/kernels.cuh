// All kernels by name: body, blocks in x (0: the caller decides), threads and how many blocks an SM must hold, for a K.
#pragma once
#include "chunks.cuh"
#include "extend.cuh"
#include "sector.cuh"
#include "tables.cuh"

struct Grid {
    u32 blocks, threads;
    u32 resident = 1;  // blocks that an SM must have registers for
};

template <int K>
struct Kernels {
    static constexpr u32 STRIPS = (Params<K>::BUCKETS + STRIP - 1) / STRIP;
    static constexpr Grid prepare_roots_grid = {ROOTS_BLOCKS, ROOTS_THREADS};
    static constexpr Grid clear_grid = {CLEAR_BLOCKS, CLEAR_THREADS};
    static constexpr Grid extend_first_grid = {OUTER_BLOCKS, OUTER_THREADS};
    static constexpr Grid extend_middle_grid = {MIDDLE_BLOCKS, MIDDLE_THREADS};
    static constexpr Grid extend_last_grid = {OUTER_BLOCKS, OUTER_THREADS};
    static constexpr Grid table_1_grid = {Table1<K>::BLOCKS, Table1<K>::THREADS};
    static constexpr Grid table_2_grid = {STRIPS, MATCH_THREADS, 6};
    static constexpr Grid table_3_grid = table_2_grid, table_4_grid = table_2_grid, table_5_grid = table_2_grid;
    static constexpr Grid table_6_grid = table_2_grid, table_7_grid = table_2_grid;
    static constexpr Grid choose_chunks_grid = {1, CHOOSE_THREADS};
    static constexpr Grid encode_chunks_grid = {XOR_BLOCKS, XOR_THREADS};
    static constexpr Grid choose_stored_grid = {1, CHOOSE_THREADS};
    static constexpr Grid decode_chunks_grid = {XOR_BLOCKS, XOR_THREADS};
    static constexpr Grid write_proofs_grid = {0, PROOF_THREADS};
    static constexpr Grid hash_spans_grid = {0, SPAN_CHUNKS};
    static constexpr Grid assemble_grid = {0, ASSEMBLE_THREADS};

    static DEVICE void prepare_roots(const RecordArgs &args) { fill_roots(args); }
    static DEVICE void clear(const RecordArgs &args) { clear_slot<K>(args); }
    static DEVICE void extend_first(const RecordArgs &args) { extend_first_levels<K>(args); }
    static DEVICE void extend_middle(const RecordArgs &args) { extend_middle_levels<K>(args); }
    static DEVICE void extend_last(const RecordArgs &args) { extend_last_levels<K>(args); }
    static DEVICE void table_1(const RecordArgs &args) { make_table_1<K>(args); }
    static DEVICE void table_2(const RecordArgs &args) { make_table<K, 2>(args); }
    static DEVICE void table_3(const RecordArgs &args) { make_table<K, 3>(args); }
    static DEVICE void table_4(const RecordArgs &args) { make_table<K, 4>(args); }
    static DEVICE void table_5(const RecordArgs &args) { make_table<K, 5>(args); }
    static DEVICE void table_6(const RecordArgs &args) { make_table<K, 6>(args); }
    static DEVICE void table_7(const RecordArgs &args) { make_table<K, 7>(args); }
    static DEVICE void choose_chunks(const RecordArgs &args) { choose_with_proofs<K>(args); }
    static DEVICE void encode_chunks(const RecordArgs &args) { xor_chunks<K, true>(args); }
    static DEVICE void choose_stored(const RecordArgs &args) { choose_with_bitfield<K>(args); }
    static DEVICE void decode_chunks(const RecordArgs &args) { xor_chunks<K, false>(args); }
    static DEVICE void write_proofs(const ProofArgs &args) { write_whole_proofs<K>(args); }
    static DEVICE void hash_spans(const HashArgs &args) { hash_span(args); }
    static DEVICE void assemble(const AssembleArgs &args) { assemble_s_bucket(args); }
};

// The numbers of LayoutField, then the grids. (NVRTC has no offsetof.)
#define OFFSET_IN_SLOT(member) (u64)&((Slot<LAYOUT_OF> *)0)->member
#define LAYOUT_GRID(kernel, Args) Kernels<LAYOUT_OF>::kernel##_grid.blocks, Kernels<LAYOUT_OF>::kernel##_grid.threads,
#define LAYOUT_NUMBERS                                                                                                                        \
    INTERFACE_VERSION, LAYOUT_OF, sizeof(Slot<LAYOUT_OF>), OFFSET_IN_SLOT(source), OFFSET_IN_SLOT(parity), \
        sizeof(Roots), sizeof(RecordInput), sizeof(RecordResult), KERNELS(LAYOUT_GRID)
