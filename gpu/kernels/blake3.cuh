// BLAKE3: one compression is 7 rounds of 8 mixing steps, ~450 operations of the integer pipe and ~165 additions that may go to the other one.
// Message words that are known zeros when compiling cost nothing.
#pragma once
#include "device.h"

constexpr u32 BLAKE3_CHUNK_START = 1;
constexpr u32 BLAKE3_CHUNK_END = 2;
constexpr u32 BLAKE3_PARENT = 4;
constexpr u32 BLAKE3_ROOT = 8;

DEVICE void blake3_initial(u32 (&value)[8]) {
    value[0] = 0x6A09E667, value[1] = 0xBB67AE85, value[2] = 0x3C6EF372, value[3] = 0xA54FF53A;
    value[4] = 0x510E527F, value[5] = 0x9B05688C, value[6] = 0x1F83D9AB, value[7] = 0x5BE0CD19;
}

DEVICE void blake3_mix(u32 &a, u32 &b, u32 &c, u32 &d, u32 x, u32 y) {
    a = a + b + x;
    d = rotate_right(d ^ a, 16);
    c = c + d;
    b = rotate_right(b ^ c, 12);
    a = a + b + y;
    d = rotate_right(d ^ a, 8);
    c = c + d;
    b = rotate_right(b ^ c, 7);
}

// value = the chaining value (or hash, with ROOT) of the block `message` of `length` bytes. The output may be used in part: the rest is not computed.
DEVICE void blake3_compress(u32 (&value)[8], const u32 (&message)[16], u64 counter, u32 length, u32 flags) {
    const int next_word[16] = {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8};
    u32 m[16], v[16];
#pragma unroll
    for (int i = 0; i < 16; i++) m[i] = message[i];
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = value[i];
    v[8] = 0x6A09E667, v[9] = 0xBB67AE85, v[10] = 0x3C6EF372, v[11] = 0xA54FF53A;
    v[12] = (u32)counter, v[13] = (u32)(counter >> 32), v[14] = length, v[15] = flags;
#pragma unroll
    for (int round = 0; round < 7; round++) {
#pragma unroll
        for (int i = 0; i < 4; i++) blake3_mix(v[i], v[4 + i], v[8 + i], v[12 + i], m[2 * i], m[2 * i + 1]);
#pragma unroll
        for (int i = 0; i < 4; i++)
            blake3_mix(v[i], v[4 + (i + 1) % 4], v[8 + (i + 2) % 4], v[12 + (i + 3) % 4], m[8 + 2 * i], m[9 + 2 * i]);
        u32 permuted[16];
#pragma unroll
        for (int i = 0; i < 16; i++) permuted[i] = m[next_word[i]];
#pragma unroll
        for (int i = 0; i < 16; i++) m[i] = permuted[i];
    }
#pragma unroll
    for (int i = 0; i < 8; i++) value[i] = v[i] ^ v[8 + i];
}
