// Numbers of the BLS12-381 scalar field: eight 32-bit limbs, the lowest first, always below the modulus.
//
// A product takes 64 + 56 wide multiply-adds (Montgomery, R = 2^256). Data stays in plain form: only constants carry the factor R, which the product takes away.
#pragma once
#include "device.h"

struct Scalar {
    u32 limbs[8];
};

// The limbs of the modulus, as numbers that are known when compiling. The lowest is 1, so its negated inverse is 2^32 - 1.
DEVICE u32 modulus(int i) {
    const u32 limbs[8] = {0x00000001, 0xffffffff, 0xfffe5bfe, 0x53bda402, 0x09a1d805, 0x3339d808, 0x299d7d48, 0x73eda753};
    return limbs[i];
}

DEVICE Scalar montgomery_one() {
    return {{0xfffffffe, 0x00000001, 0x00034802, 0x5884b7fa, 0xecbc4ff5, 0x998c4fef, 0xacc5056f, 0x1824b159}};
}

// The 2^16-th root of unity of PROTOCOL 2, times R.
DEVICE Scalar montgomery_root() {
    return {{0x11c947f9, 0x4526e48b, 0xc614d3aa, 0xccc36140, 0x03cd5f24, 0xf2e56f1a, 0x159e0248, 0x57db5a4c}};
}

// Its inverse, times R.
DEVICE Scalar montgomery_inverse_root() {
    return {{0x32233a37, 0x9da11b8f, 0x649253a6, 0x78cd3e7a, 0x5e782970, 0x47b227da, 0xa95125a3, 0x4ffe8088}};
}

// 2^-15, times R.
DEVICE Scalar montgomery_inverse_of_count() {
    return {{0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00020000}};
}

// a - modulus, and whether that was below zero.
DEVICE bool subtract_modulus(const Scalar &a, Scalar &difference) {
    u32 borrow = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const u64 limb = (u64)a.limbs[i] - modulus(i) - borrow;
        difference.limbs[i] = (u32)limb;
        borrow = (u32)(limb >> 32) & 1;
    }
    return borrow;
}

DEVICE Scalar reduce_once(const Scalar &a) {
    Scalar less, result;
    const bool below = subtract_modulus(a, less);
#pragma unroll
    for (int i = 0; i < 8; i++) result.limbs[i] = below ? a.limbs[i] : less.limbs[i];
    return result;
}

// The sum of two fits into eight limbs, the modulus having 255 bits.
DEVICE Scalar operator+(const Scalar &a, const Scalar &b) {
    Scalar sum;
    u64 limb = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        limb = (limb >> 32) + a.limbs[i] + b.limbs[i];
        sum.limbs[i] = (u32)limb;
    }
    return reduce_once(sum);
}

DEVICE Scalar operator-(const Scalar &a, const Scalar &b) {
    Scalar difference;
    u32 borrow = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const u64 limb = (u64)a.limbs[i] - b.limbs[i] - borrow;
        difference.limbs[i] = (u32)limb;
        borrow = (u32)(limb >> 32) & 1;
    }
    const u32 wrapped = 0u - borrow;
    u64 limb = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        limb = (limb >> 32) + difference.limbs[i] + (modulus(i) & wrapped);
        difference.limbs[i] = (u32)limb;
    }
    return difference;
}

// a * b / R. The modulus has a free top bit, so no ninth limb is needed between the rows.
DEVICE Scalar operator*(const Scalar &a, const Scalar &b) {
    u32 t[8] = {0, 0, 0, 0, 0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < 8; i++) {
        u64 product = (u64)a.limbs[0] * b.limbs[i] + t[0];
        u32 carry = (u32)(product >> 32);
        const u32 multiple = 0u - (u32)product;
        // The lowest limb of the modulus is 1: it makes a zero, and a carry unless it was one already.
        u32 reduction_carry = multiple != 0;
#pragma unroll
        for (int j = 1; j < 8; j++) {
            product = (u64)a.limbs[j] * b.limbs[i] + t[j] + carry;
            carry = (u32)(product >> 32);
            const u64 reduced = (u64)multiple * modulus(j) + (u32)product + reduction_carry;
            reduction_carry = (u32)(reduced >> 32);
            t[j - 1] = (u32)reduced;
        }
        t[7] = carry + reduction_carry;
    }
    Scalar result;
#pragma unroll
    for (int i = 0; i < 8; i++) result.limbs[i] = t[i];
    return reduce_once(result);
}

// A chunk's 32 bytes, the most significant first.
DEVICE Scalar scalar_from_chunk(const uint4 *chunk) {
    const uint4 high = chunk[0], low = chunk[1];
    return {{swap_bytes(low.w), swap_bytes(low.z), swap_bytes(low.y), swap_bytes(low.x), swap_bytes(high.w), swap_bytes(high.z), swap_bytes(high.y),
             swap_bytes(high.x)}};
}

DEVICE void scalar_to_chunk(const Scalar &a, uint4 *chunk) {
    chunk[0] = make_uint4(swap_bytes(a.limbs[7]), swap_bytes(a.limbs[6]), swap_bytes(a.limbs[5]), swap_bytes(a.limbs[4]));
    chunk[1] = make_uint4(swap_bytes(a.limbs[3]), swap_bytes(a.limbs[2]), swap_bytes(a.limbs[1]), swap_bytes(a.limbs[0]));
}
