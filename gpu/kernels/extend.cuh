// The extension of a record (PROTOCOL 2): its 2^15 chunks are values at the even powers of the 2^16-th root of unity; parity chunks are the values at the odd ones.
//
//   extend_first    upper 8 levels of the inverse transform: 256 elements with the same low 7 bits of the index are one block's       1 MiB in, 1 out
//   extend_middle   lower 7 levels, times root^i / 2^15 (onto the coset), lower 7 levels of the forward transform: 128 neighbours      1 MiB in, 1 out
//   extend_last     upper 8 levels of the forward transform; bytes again                                                               1 MiB in, 1 out
//
// 0.49 M butterflies and 0.53 M products a record. The inverse transform leaves the coefficients in bit-reversed order, as the forward one wants them.
// Fewer values: the same values over and over are those of a polynomial in a power of X, so a shorter extension is this one of repeated source chunks.
#pragma once
#include "scalar.cuh"
#include "slot.cuh"

constexpr int LEVELS = 15, MIDDLE_LEVELS = 7;
constexpr u32 MIDDLE_ELEMENTS = 1 << MIDDLE_LEVELS;              // of a block of extend_middle, at distance 1
constexpr u32 OUTER_ELEMENTS = RECORD_CHUNKS / MIDDLE_ELEMENTS;  // of a block of the others, at distance 128
constexpr u32 OUTER_BLOCKS = MIDDLE_ELEMENTS, OUTER_THREADS = OUTER_ELEMENTS / 2;
constexpr u32 MIDDLE_BLOCKS = OUTER_ELEMENTS, MIDDLE_THREADS = MIDDLE_ELEMENTS / 2;

// Constants of the transforms, all times R; filled once by prepare_roots. 2 MiB, read by all records.
struct Roots {
    Scalar inverse[RECORD_CHUNKS / 2];  // w^-i, w = the 2^15-th root
    Scalar forward[RECORD_CHUNKS / 2];  // w^i
    Scalar coset[RECORD_CHUNKS];        // root^i / 2^15 where coefficient i lies: at i with its 15 bits reversed
};

constexpr u32 ROOTS_THREADS = 128, ROOTS_BLOCKS = 2 * RECORD_CHUNKS / ROOTS_THREADS;

DEVICE Scalar montgomery_power(Scalar base, u32 exponent) {
    Scalar result = montgomery_one();
    for (; exponent; exponent >>= 1) {
        if (exponent & 1) result = result * base;
        base = base * base;
    }
    return result;
}

DEVICE void fill_roots(const RecordArgs &args) {
    Roots &roots = *(Roots *)args.roots;
    const u32 i = blockIdx.x * ROOTS_THREADS + threadIdx.x, half = RECORD_CHUNKS / 2;
    if (i < half)
        roots.inverse[i] = montgomery_power(montgomery_inverse_root(), 2 * i);
    else if (i < 2 * half)
        roots.forward[i - half] = montgomery_power(montgomery_root(), 2 * (i - half));
    else {
        const u32 place = i - 2 * half, coefficient = __brev(place) >> (32 - LEVELS);
        roots.coset[place] = montgomery_power(montgomery_root(), coefficient) * montgomery_inverse_of_count();
    }
}

// Elements of a block, limb by limb, so that threads beside each other read words beside each other.
template <u32 ELEMENTS>
struct Elements {
    u32 limbs[8][ELEMENTS];

    DEVICE Scalar get(u32 i) const {
        Scalar a;
#pragma unroll
        for (int limb = 0; limb < 8; limb++) a.limbs[limb] = limbs[limb][i];
        return a;
    }
    DEVICE void set(u32 i, const Scalar &a) {
#pragma unroll
        for (int limb = 0; limb < 8; limb++) limbs[limb][i] = a.limbs[limb];
    }
};

// One level for this thread's two elements, `half` apart, of elements at distance STEP in the record, the first of which is at `offset` modulo STEP.
template <u32 ELEMENTS, u32 STEP, bool INVERSE>
DEVICE void butterfly(Elements<ELEMENTS> &elements, const Scalar *roots, u32 half, u32 offset) {
    const u32 within = threadIdx.x & (half - 1), low = 2 * (threadIdx.x - within) + within, high = low + half;
    const Scalar a = elements.get(low), b = elements.get(high);
    const Scalar root = roots[(offset + STEP * within) * (RECORD_CHUNKS / (2 * half * STEP))];
    if (INVERSE) {
        elements.set(low, a + b);
        elements.set(high, (a - b) * root);
    } else {
        const Scalar turned = b * root;
        elements.set(low, a + turned);
        elements.set(high, a - turned);
    }
}

template <int K>
DEVICE void extend_first_levels(const RecordArgs &args) {
    __shared__ Elements<OUTER_ELEMENTS> elements;
    Slot<K> &slot = slot_of<K>(args);
    const Roots &roots = *(const Roots *)args.roots;
    const u32 column = blockIdx.x;
    for (u32 i = threadIdx.x; i < OUTER_ELEMENTS; i += OUTER_THREADS) {
        const u32 chunk = column + MIDDLE_ELEMENTS * i;
        const Scalar value = scalar_from_chunk((const uint4 *)slot.source + 2 * chunk);
        Scalar less;
        if (!subtract_modulus(value, less)) atomicMax(&result_of(args).invalid, RECORD_CHUNKS - chunk);
        elements.set(i, value);
    }
    for (u32 half = OUTER_ELEMENTS / 2; half > 0; half /= 2) {
        __syncthreads();
        butterfly<OUTER_ELEMENTS, MIDDLE_ELEMENTS, true>(elements, roots.inverse, half, column);
    }
    __syncthreads();
    Scalar *work = (Scalar *)slot.parity;
    for (u32 i = threadIdx.x; i < OUTER_ELEMENTS; i += OUTER_THREADS) work[column + MIDDLE_ELEMENTS * i] = elements.get(i);
}

template <int K>
DEVICE void extend_middle_levels(const RecordArgs &args) {
    __shared__ Elements<MIDDLE_ELEMENTS> elements;
    const Roots &roots = *(const Roots *)args.roots;
    Scalar *work = (Scalar *)slot_of<K>(args).parity + blockIdx.x * MIDDLE_ELEMENTS;
    for (u32 i = threadIdx.x; i < MIDDLE_ELEMENTS; i += MIDDLE_THREADS) elements.set(i, work[i]);
    for (u32 half = MIDDLE_ELEMENTS / 2; half > 0; half /= 2) {
        __syncthreads();
        butterfly<MIDDLE_ELEMENTS, 1, true>(elements, roots.inverse, half, 0);
    }
    __syncthreads();
    const Scalar *coset = roots.coset + blockIdx.x * MIDDLE_ELEMENTS;
    for (u32 i = threadIdx.x; i < MIDDLE_ELEMENTS; i += MIDDLE_THREADS) elements.set(i, elements.get(i) * coset[i]);
    for (u32 half = 1; half < MIDDLE_ELEMENTS; half *= 2) {
        __syncthreads();
        butterfly<MIDDLE_ELEMENTS, 1, false>(elements, roots.forward, half, 0);
    }
    __syncthreads();
    for (u32 i = threadIdx.x; i < MIDDLE_ELEMENTS; i += MIDDLE_THREADS) work[i] = elements.get(i);
}

template <int K>
DEVICE void extend_last_levels(const RecordArgs &args) {
    __shared__ Elements<OUTER_ELEMENTS> elements;
    Scalar *work = (Scalar *)slot_of<K>(args).parity;
    const Roots &roots = *(const Roots *)args.roots;
    const u32 column = blockIdx.x;
    for (u32 i = threadIdx.x; i < OUTER_ELEMENTS; i += OUTER_THREADS) elements.set(i, work[column + MIDDLE_ELEMENTS * i]);
    for (u32 half = 1; half < OUTER_ELEMENTS; half *= 2) {
        __syncthreads();
        butterfly<OUTER_ELEMENTS, MIDDLE_ELEMENTS, false>(elements, roots.forward, half, column);
    }
    __syncthreads();
    for (u32 i = threadIdx.x; i < OUTER_ELEMENTS; i += OUTER_THREADS)
        scalar_to_chunk(elements.get(i), (uint4 *)(work + column + MIDDLE_ELEMENTS * i));
}
