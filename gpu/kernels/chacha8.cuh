// ChaCha8, IETF variant with a zero nonce: 407 instructions a block of 64 bytes.
#pragma once
#include "device.h"

DEVICE void chacha_quarter(u32 &a, u32 &b, u32 &c, u32 &d) {
    a += b, d = rotate_right(d ^ a, 16);
    c += d, b = rotate_right(b ^ c, 20);
    a += b, d = rotate_right(d ^ a, 24);
    c += d, b = rotate_right(b ^ c, 25);
}

// Block `number` of the keystream, as little-endian words.
DEVICE void chacha8_block(const u32 (&key)[8], u32 number, u32 (&out)[16]) {
    u32 initial[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
#pragma unroll
    for (int i = 0; i < 8; i++) initial[4 + i] = key[i];
    initial[12] = number;
#pragma unroll
    for (int i = 0; i < 16; i++) out[i] = initial[i];
#pragma unroll
    for (int round = 0; round < 4; round++) {
#pragma unroll
        for (int i = 0; i < 4; i++) chacha_quarter(out[i], out[4 + i], out[8 + i], out[12 + i]);
#pragma unroll
        for (int i = 0; i < 4; i++) chacha_quarter(out[i], out[4 + (i + 1) % 4], out[8 + (i + 2) % 4], out[12 + (i + 3) % 4]);
    }
#pragma unroll
    for (int i = 0; i < 16; i++) out[i] += initial[i];
}
