/* The micro-kernel: C (16, 16) += A (16, 32) @ B (32, 16), with C in float and A and B of elements.

    A tile: MR = 16 rows of k = 32 elements, as they lie in memory; rows may be far apart.
    B tile: k / VNNI rows of NR = 16 columns. With bf16 two rows of B share one (VNNI): b[0][0] b[1][0] b[0][1] b[1][1] ...
    C tile: 16 rows of 16 floats.

AMX computes it by one instruction. Tile registers:

               tmm6 = B left   tmm7 = B right
    tmm4 = A   tmm0            tmm2             (muon.c: tmm0, tmm1
    tmm5 = A'  tmm1            tmm3                      tmm2, tmm3)

AVX-512: zmm i is row i of C. For each k, a register holds row k of B, and another one element of A in all lanes.
AVX2: rows of C in fours, each in two ymm of 8 floats. */

#pragma once

#include "simd.h"

enum { MR = 16, NR = 16, TILE_K = 32, B_TILE = TILE_K * NR };

#ifdef __AMX_BF16__

/* Tiles 0 to 3 are C (rows, 16), 4 and 5 A (rows, depth), 6 and 7 B (depth, 16). */
static inline void configure_tiles(int64_t rows, int64_t depth) {
    struct { uint8_t palette, start, reserved[14]; uint16_t bytes[16]; uint8_t rows[16]; } config = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        config.rows[tile] = (uint8_t)(tile < 6 ? rows : depth / 2);
        config.bytes[tile] = (uint16_t)(tile == 4 || tile == 5 ? 2 * depth : 64);
    }
    _tile_loadconfig(&config);
}

static inline void release_tiles(void) { _tile_release(); }

#else /* registers */

static inline void configure_tiles(int64_t rows, int64_t depth) { (void)rows, (void)depth; }
static inline void release_tiles(void) {}

#ifndef __AVX512F__

/* C (4, 16) += A (4, depth) @ B (depth, 16). Rows of A are `a_stride` bytes apart, those of B `b_stride` bytes. A
function of its own, so that all addresses fit into registers. */
__attribute__((noinline)) static void tile_fma_4(__m512 *c, const char *a, int64_t a_stride, int64_t depth, const char *b,
                                                 int64_t b_stride) {
    const char *const second = a + a_stride, *const third = second + a_stride, *const fourth = third + a_stride;
    __m256 l0 = c[0].half[0], l1 = c[1].half[0], l2 = c[2].half[0], l3 = c[3].half[0];
    __m256 r0 = c[0].half[1], r1 = c[1].half[1], r2 = c[2].half[1], r3 = c[3].half[1];
    for (int64_t k = 0; k < 4 * depth; k += 4, b += b_stride) {
        const __m256 left = _mm256_loadu_ps((const float *)b), right = _mm256_loadu_ps((const float *)b + 8);
        const __m256 a0 = _mm256_broadcast_ss((const float *)(a + k)), a1 = _mm256_broadcast_ss((const float *)(second + k));
        l0 = _mm256_fmadd_ps(left, a0, l0), r0 = _mm256_fmadd_ps(right, a0, r0);
        l1 = _mm256_fmadd_ps(left, a1, l1), r1 = _mm256_fmadd_ps(right, a1, r1);
        const __m256 a2 = _mm256_broadcast_ss((const float *)(third + k)), a3 = _mm256_broadcast_ss((const float *)(fourth + k));
        l2 = _mm256_fmadd_ps(left, a2, l2), r2 = _mm256_fmadd_ps(right, a2, r2);
        l3 = _mm256_fmadd_ps(left, a3, l3), r3 = _mm256_fmadd_ps(right, a3, r3);
    }
    c[0] = (__m512){{l0, r0}}, c[1] = (__m512){{l1, r1}}, c[2] = (__m512){{l2, r2}}, c[3] = (__m512){{l3, r3}};
}

#endif

/* C (16, 16) += A (16, depth) @ B (depth, 16). A consists of groups of `width` rows: rows of a group are `a_stride` bytes
apart, groups `group_stride` bytes. Rows of B are `b_stride` bytes apart. */
INLINE void tile_fma(__m512 *c, int width, const void *a, int64_t a_stride, int64_t group_stride, int64_t depth, const void *b,
                     int64_t b_stride) {
    const char *four[4], *b_row = b;
    for (int i = 0; i < 4; i++) four[i] = (const char *)a + 4 * i / width * group_stride + 4 * i % width * a_stride;
#ifndef __AVX512F__
    for (int i = 0; i < 4; i++) tile_fma_4(c + 4 * i, four[i], a_stride, depth, b_row, b_stride);
#else
    const int64_t along[4] = {0, a_stride, 2 * a_stride, 3 * a_stride};
    _Pragma("GCC unroll 2") for (int64_t k = 0; k < depth * (int64_t)sizeof(elem_t); k += 4, b_row += b_stride) {
        const __m512i row = _mm512_loadu_si512(b_row);
        _Pragma("GCC unroll 16") for (int i = 0; i < 16; i++) {
            int32_t bits; /* one float of A, or two bf16 */
            memcpy(&bits, four[i / 4] + along[i % 4] + k, sizeof bits);
            const __m512i all = _mm512_set1_epi32(bits);
#ifdef FP32
            c[i] = _mm512_fmadd_ps((__m512)row, (__m512)all, c[i]);
#else
            c[i] = _mm512_dpbf16_ps(c[i], (__m512bh)row, (__m512bh)all);
#endif
        }
    }
#endif
}

/* C (16, 16) from memory, rows `stride` floats apart; zeros where there is none. */
INLINE void load_tile(__m512 *c, const float *from, int64_t stride) {
    _Pragma("GCC unroll 16") for (int i = 0; i < 16; i++) c[i] = from ? _mm512_loadu_ps(from + i * stride) : _mm512_setzero_ps();
}

INLINE void store_tile(const __m512 *c, float *to, int64_t stride) {
    _Pragma("GCC unroll 16") for (int i = 0; i < 16; i++) _mm512_storeu_ps(to + i * stride, c[i]);
}

#endif
