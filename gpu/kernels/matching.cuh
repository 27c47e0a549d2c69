// One bucket in order, and the matches of two neighbours, within a block of threads.
//
// A bucket has about 236 entries in 119 rows of 127 columns: two a row, so a bitmap of 2 KB holds it. Left entry (row, column) matches right entry
// ((row + m) mod 119, (column + (2m + parity)^2) mod 127) for m in 0 .. 63, so all matches of two rows are one AND of one row, rotated.
//
// Loops that run a time or two are kept from being unrolled: unrolled by four, as the compiler would, they double the instructions and spill registers.
#pragma once
#include "slot.cuh"

constexpr u32 MATCH_THREADS = 128;
constexpr u32 STRIP = 8;          // bucket pairs of a block: 9 buckets are built for 8 pairs
constexpr u32 MATCHES = 512;      // of a pair, as many as consensus keeps; 374 is the most ever seen
constexpr u32 EQUALS = 32;        // entries of a bucket that share their y with another; four on average
constexpr u32 LAST_COLUMNS = 0x7fffffff;  // of a row's last word: 127 columns

// What of an entry orders its bucket: r, and the position among those of equal r.
struct OrderKey {
    u32 r, order;
};

struct Bucket {
    uint4 rows[ROWS + TARGETS - 1];  // bit `column` of row; the first rows again after the last, for m to run over the end
    u16 before[ROWS * 4];            // distinct r before each word
    u16 place_of[CAPACITY];          // where the entry of each rank lies
    u16 repeated_r[EQUALS];          // r of each entry that found its bit set already
    u32 repeated;
};

struct MatchMemory {
    Bucket buckets[2];  // by parity of the bucket's number
    u32 matches[MATCHES];  // left rank << 9 | right rank
    u16 cells[MATCHES];    // left row << 6 | m
    uint2 equals[EQUALS];  // r << 16 | place; order
    u32 equals_count, cells_count, matches_count;
    u32 warp_sums[MATCH_THREADS / 32];
};
static_assert(sizeof(MatchMemory) <= 65536 / 5, "five blocks an SM on Turing");

// After an overflow not every rank is written; what is read there must still be a place.
DEVICE void clear_places(MatchMemory &memory) {
#pragma unroll 1
    for (u32 i = threadIdx.x; i < CAPACITY; i += MATCH_THREADS) memory.buckets[0].place_of[i] = memory.buckets[1].place_of[i] = 0;
    __syncthreads();
}

DEVICE u32 lanes_below() { return (1u << (threadIdx.x & 31)) - 1; }

// Entries with a smaller r: bits before, and one more for each entry beyond the first of an r.
DEVICE u32 rank_of(const Bucket &bucket, u32 r, u32 row, u32 column) {
    const u32 word = ((const u32 *)&bucket.rows[row])[column / 32];
    u32 rank = bucket.before[row * 4 + column / 32] + __popc(word & ((1u << column % 32) - 1));
#pragma unroll 1
    for (u32 i = 0; i < bucket.repeated; i++) rank += bucket.repeated_r[i] < r;
    return rank;
}

DEVICE u32 entries_with(const Bucket &bucket, u32 r) {
    u32 entries = 1;
#pragma unroll 1
    for (u32 i = 0; i < bucket.repeated; i++) entries += bucket.repeated_r[i] == r;
    return entries;
}

// Sum of `value` over this thread and those before it.
DEVICE u32 block_prefix_sum(u32 (&warp_sums)[MATCH_THREADS / 32], u32 value) {
    u32 sum = value;
#pragma unroll
    for (u32 distance = 1; distance < 32; distance *= 2) {
        const u32 other = __shfl_up_sync(~0u, sum, distance);
        if ((threadIdx.x & 31) >= distance) sum += other;
    }
    if ((threadIdx.x & 31) == 31) warp_sums[threadIdx.x / 32] = sum;
    __syncthreads();
#pragma unroll 1
    for (u32 warp = 0; warp < threadIdx.x / 32; warp++) sum += warp_sums[warp];
    return sum;
}

// Counts bits before each word, and repeats the first rows.
DEVICE void count_rows(MatchMemory &memory, Bucket &bucket) {
    const u32 row = threadIdx.x;
    const uint4 words = row < ROWS ? bucket.rows[row] : make_uint4(0, 0, 0, 0);
    const u32 counts[4] = {(u32)__popc(words.x), (u32)__popc(words.y), (u32)__popc(words.z), (u32)__popc(words.w)};
    const u32 bits = counts[0] + counts[1] + counts[2] + counts[3];
    u32 before = block_prefix_sum(memory.warp_sums, bits) - bits;
    if (row >= ROWS) return;
    if (row < TARGETS - 1) bucket.rows[ROWS + row] = words;
    for (int i = 0; i < 4; i++) {
        bucket.before[row * 4 + i] = (u16)before;
        before += counts[i];
    }
}

// Of the entries that share their r with another, the order decides; each counts those before it.
DEVICE void place_equals(MatchMemory &memory, Bucket &bucket) {
    const u32 count = min(memory.equals_count, EQUALS);
    if (threadIdx.x >= count) return;
    const uint2 mine = memory.equals[threadIdx.x];
    const u32 r = mine.x >> 16;
    u32 rank = rank_of(bucket, r, r / COLUMNS, r % COLUMNS);
#pragma unroll 1
    for (u32 i = 0; i < count; i++) rank += memory.equals[i].x >> 16 == r && memory.equals[i].y < mine.y;
    bucket.place_of[rank] = (u16)mine.x;
}

// Brings the `entries` entries from place `first` on into order; `load` gives the OrderKey of a place. All threads call it.
template <typename Load>
DEVICE void build_bucket(MatchMemory &memory, Bucket &bucket, u32 &flags, u32 first, u32 entries, Load load) {
    constexpr u32 EACH = CAPACITY / MATCH_THREADS;
    for (u32 i = threadIdx.x; i < ROWS; i += MATCH_THREADS) bucket.rows[i] = make_uint4(0, 0, 0, 0);
    if (threadIdx.x == 0) bucket.repeated = 0, memory.equals_count = 0;
    __syncthreads();
    OrderKey keys[EACH];
#pragma unroll
    for (u32 i = 0; i < EACH; i++) {
        const u32 entry = threadIdx.x + i * MATCH_THREADS;
        if (entry >= entries) break;
        keys[i] = load(first + entry);
        const u32 row = keys[i].r / COLUMNS, column = keys[i].r % COLUMNS, bit = 1u << column % 32;
        if (atomicOr((u32 *)&bucket.rows[row] + column / 32, bit) & bit) {
            const u32 number = atomicAdd(&bucket.repeated, 1u);
            if (number < EQUALS) bucket.repeated_r[number] = (u16)keys[i].r;
        }
    }
    __syncthreads();
    // From here on nobody looks beyond the list. One equal to two entries is counted by both of these.
    if (threadIdx.x == 0 && bucket.repeated > EQUALS / 2) {
        atomicOr(&flags, RESULT_OVERFLOW);
        bucket.repeated = EQUALS / 2;
    }
    count_rows(memory, bucket);
    __syncthreads();
#pragma unroll
    for (u32 i = 0; i < EACH; i++) {
        const u32 entry = threadIdx.x + i * MATCH_THREADS;
        if (entry >= entries) break;
        const u32 r = keys[i].r;
        if (entries_with(bucket, r) > 1) {
            const u32 number = atomicAdd(&memory.equals_count, 1u);
            if (number < EQUALS) memory.equals[number] = make_uint2(r << 16 | entry, keys[i].order);
        } else {
            bucket.place_of[min(rank_of(bucket, r, r / COLUMNS, r % COLUMNS), CAPACITY - 1)] = (u16)entry;
        }
    }
    __syncthreads();
    place_equals(memory, bucket);
}

constexpr DEVICE int column_shift(int m, int parity) { return (2 * m + parity) * (2 * m + parity) % (int)COLUMNS; }

// For m below M: whether the left row, rotated by m's shift, has a column in common with row m of `rows`. `doubled` is the left row twice in a row, so
// that rotating is one funnel shift a word by an amount known when compiling: 4 shifts, 4 LOP3, 2 to note the outcome and one 16-byte load a cell.
template <int PARITY, int M>
struct Cells {
    static DEVICE void find(const u32 (&doubled)[8], const uint4 *rows, u32 (&hits)[2]) {
        Cells<PARITY, M - 1>::find(doubled, rows, hits);
        constexpr int m = M - 1, by = (COLUMNS - column_shift(m, PARITY)) % COLUMNS;
        const uint4 row = rows[m];
        const u32 common = (bits_at<by>(doubled) & row.x) | (bits_at<by + 32>(doubled) & row.y) | (bits_at<by + 64>(doubled) & row.z) |
                           (bits_at<by + 96>(doubled) & row.w & LAST_COLUMNS);
        if (common) hits[m / 32] |= 1u << m % 32;
    }
};
template <int PARITY>
struct Cells<PARITY, 0> {
    static DEVICE void find(const u32 (&)[8], const uint4 *, u32 (&)[2]) {}
};

// Notes the cells with matches: thread t does left row t.
DEVICE void find_cells(MatchMemory &memory, u32 parity) {
    const u32 row = threadIdx.x;
    if (row >= ROWS) return;
    const uint4 words = memory.buckets[parity].rows[row];
    const u32 doubled[8] = {words.x,
                            words.y,
                            words.z,
                            words.w | words.x << 31,
                            __funnelshift_r(words.x, words.y, 1),
                            __funnelshift_r(words.y, words.z, 1),
                            __funnelshift_r(words.z, words.w, 1),
                            words.w >> 1};
    u32 hits[2] = {0, 0};
    const uint4 *rows = memory.buckets[parity ^ 1].rows + row;
    if (parity)
        Cells<1, TARGETS>::find(doubled, rows, hits);
    else
        Cells<0, TARGETS>::find(doubled, rows, hits);
    const u32 count = __popc(hits[0]) + __popc(hits[1]);
    if (count == 0) return;
    u32 at = atomicAdd(&memory.cells_count, count);
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll 1
        for (u32 rest = hits[half]; rest; rest &= rest - 1, at++)
            if (at < MATCHES) memory.cells[at] = (u16)(row << 6 | (half * 32 + __ffs(rest) - 1));
}

// Notes the matches of two entries' r: usually one, more where several entries share an r.
DEVICE void push_matches(MatchMemory &memory, const Bucket &left, const Bucket &right, u32 row, u32 column, u32 right_row, u32 right_column) {
    const u32 left_r = row * COLUMNS + column, right_r = right_row * COLUMNS + right_column;
    const u32 lefts = entries_with(left, left_r), rights = entries_with(right, right_r);
    const u32 match = rank_of(left, left_r, row, column) << 9 | rank_of(right, right_r, right_row, right_column);
    u32 at = atomicAdd(&memory.matches_count, lefts * rights);
#pragma unroll 1
    for (u32 i = 0; i < lefts; i++)
#pragma unroll 1
        for (u32 j = 0; j < rights; j++, at++)
            if (at < MATCHES) memory.matches[at] = match + (i << 9) + j;
}

// The matches in one cell: those columns of the left row that, shifted, are in the right one.
DEVICE void find_matches(MatchMemory &memory, u32 parity, u32 cell) {
    const Bucket &left = memory.buckets[parity], &right = memory.buckets[parity ^ 1];
    const u32 row = cell >> 6, m = cell & 63, shift = (2 * m + parity) * (2 * m + parity) % COLUMNS;
    const u32 *left_words = (const u32 *)&left.rows[row], *right_words = (const u32 *)&right.rows[row + m];
    const u32 right_row = row + m >= ROWS ? row + m - ROWS : row + m;
#pragma unroll 1
    for (u32 i = 0; i < 4; i++)
#pragma unroll 1
        for (u32 rest = left_words[i]; rest; rest &= rest - 1) {
            const u32 column = i * 32 + __ffs(rest) - 1;
            const u32 right_column = column + shift >= COLUMNS ? column + shift - COLUMNS : column + shift;
            if (right_words[right_column / 32] >> right_column % 32 & 1) push_matches(memory, left, right, row, column, right_row, right_column);
        }
}

// All matches of bucket `parity` with the other one, into memory.matches; returns how many. All threads call it, after build_bucket.
DEVICE u32 match_buckets(MatchMemory &memory, u32 parity, u32 &flags) {
    if (threadIdx.x == 0) memory.cells_count = 0, memory.matches_count = 0;
    __syncthreads();
    find_cells(memory, parity);
    __syncthreads();
    const u32 cells = min(memory.cells_count, MATCHES);
#pragma unroll 1
    for (u32 i = threadIdx.x; i < cells; i += MATCH_THREADS) find_matches(memory, parity, memory.cells[i]);
    __syncthreads();
    if (threadIdx.x == 0 && (memory.cells_count > MATCHES || memory.matches_count > MATCHES)) atomicOr(&flags, RESULT_OVERFLOW);
    return min(memory.matches_count, MATCHES);
}
