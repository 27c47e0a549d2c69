// Looks for races in the kernels: all of them at K = 16 over two OS threads, each CUDA thread a thread of its own to ThreadSanitizer.
// First a kernel that has a race must be found out. Exit status: 0 none found.
#include <cstdio>
#include <cstring>
#include <memory>

#include "kernels.cuh"
#include "shim/shim.h"

static int reports = 0;
// The sanitizer calls this for each report.
extern "C" void __tsan_on_report(void *) { reports++; }

namespace {
constexpr int K = 16;
constexpr uint64_t SEED = 5;

// Thread 0 tells the others something, without the barrier that this needs.
void racy_kernel(const void *) {
    __shared__ unsigned told;
    if (threadIdx.x == 0) told = 7;
    *(volatile unsigned *)&told;
}

void launch(const char *name, uint32_t kernel, uint32_t grid_x, const void *args) {
    const uint64_t *layout = shim_layout(K);
    const uint32_t blocks = grid_x ? grid_x : (uint32_t)layout[LAYOUT_FIELDS + 2 * kernel];
    if (shim_launch(K, kernel, blocks, 1, args, SEED, 2)) {
        std::fprintf(stderr, "races: %s failed\n", name);
        std::exit(2);
    }
}

enum KernelNumber {
#define NUMBER(kernel, Args) KERNEL_##kernel,
    KERNELS(NUMBER)
};
#define LAUNCH(kernel, grid_x, args) launch(#kernel, KERNEL_##kernel, grid_x, &args)

// What a record of a sector of one piece goes through.
void run_all() {
    const auto slot = std::make_unique<Slot<K>>();
    const auto roots = std::make_unique<Roots>();
    static uint4 chunks[2 * RECORD_CHUNKS], sector[2 * RECORD_CHUNKS];
    static u32 bitfield[BITFIELD_WORDS], words[BITFIELD_WORDS], starts[S_BUCKETS + 1];
    static u16 ranks[RANK_ROWS], s_buckets[S_BUCKETS];
    static u8 proofs[S_BUCKETS * Proof<K>::BYTES], found[S_BUCKETS], values[RECORD_SPANS * 32];
    for (u32 i = 0; i < sizeof slot->source; i++) slot->source[i] = i % 32 == 0 ? 0 : (u8)(i * 7 + i / 32);
    for (u32 i = 0; i < S_BUCKETS; i++) s_buckets[i] = (u16)i;
    const RecordInput input = {{1, 2, 3, 4, 5, 6, 7, 8}, (u8 *)chunks, bitfield, words, ranks, 1};
    RecordResult result;
    const RecordArgs record = {slot.get(), &input, &result, roots.get()};
    LAUNCH(prepare_roots, 0, record);
    LAUNCH(clear, 0, record);
    LAUNCH(extend_first, 0, record);
    LAUNCH(extend_middle, 0, record);
    LAUNCH(extend_last, 0, record);
    LAUNCH(table_1, 0, record);
    LAUNCH(table_2, 0, record);
    LAUNCH(table_3, 0, record);
    LAUNCH(table_4, 0, record);
    LAUNCH(table_5, 0, record);
    LAUNCH(table_6, 0, record);
    LAUNCH(table_7, 0, record);
    LAUNCH(choose_chunks, 0, record);
    LAUNCH(encode_chunks, 0, record);
    std::memcpy(slot->source, chunks, sizeof chunks);
    LAUNCH(choose_stored, 0, record);
    LAUNCH(decode_chunks, 0, record);
    const ProofArgs proof = {slot.get(), s_buckets, proofs, found, S_BUCKETS, 0};
    LAUNCH(write_proofs, S_BUCKETS / PROOF_THREADS, proof);
    const HashArgs hash = {(const u8 *)chunks, 0, 0, values, 0};
    LAUNCH(hash_spans, RECORD_SPANS, hash);
    for (u32 i = 0; i < RECORD_CHUNKS; i++) starts[i] = i;
    for (u32 i = RECORD_CHUNKS; i <= S_BUCKETS; i++) starts[i] = RECORD_CHUNKS;
    const AssembleArgs assemble = {(const u8 *)chunks, words, ranks, starts, (u8 *)sector, 1, 1, 0, 0, RECORD_CHUNKS};
    LAUNCH(assemble, S_BUCKETS / ASSEMBLE_S_BUCKETS, assemble);
    if (result.flags) std::printf("races: a record of the test has flags %u\n", result.flags), std::exit(2);
}
}  // namespace

int main() {
    simt::Runner &runner = simt::runner;
    runner.kernel = racy_kernel;
    runner.run_block(64);
    if (reports == 0) {
        std::fprintf(stderr, "races: the kernel with a race was not found out\n");
        return 2;
    }
    std::fprintf(stderr, "races: (the report above is of the kernel that has a race on purpose)\n");
    reports = 0;
    run_all();
    std::fprintf(stderr, "races: %d in the kernels\n", reports);
    return reports ? 1 : 0;
}
