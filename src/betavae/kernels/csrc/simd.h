/* Vectors of 64 bytes: the type of the elements, how they are loaded and stored, and transposes in registers.

The code is compiled once for each type to multiply in. Elements are bf16, or float where FP32 is defined. Sums are
always float. */

#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

#ifndef __AVX512F__
#include "avx2.h"
#define TRANSPOSE(rows, size, word, permute) avx2_transpose_16(rows);
#define relu_backward_ps avx2_relu_backward_ps
#define load_even_ps avx2_load_even_ps
#define negative_mask avx2_negative_mask
#else

/* Transposes `size` registers of `size` words in place: swaps off-diagonal blocks of 1, 2, 4 ... words. A macro, so that
`permute` is an instruction and all loops unroll. */
#define TRANSPOSE(rows, size, word, permute)                                                            \
    _Pragma("GCC unroll 5") for (word block = 1; block < size; block *= 2) {                            \
        word upper[size], lower[size];                                                                  \
        for (word k = 0; k < size; k++) {                                                               \
            upper[k] = (word)(k & block ? size + k - block : k);                                        \
            lower[k] = (word)(k & block ? size + k : k + block);                                        \
        }                                                                                               \
        const __m512i up = _mm512_loadu_si512(upper), low = _mm512_loadu_si512(lower);                  \
        _Pragma("GCC unroll 32") for (word i = 0; i < size; i++) if (!(i & block)) {                    \
            const __m512i a = rows[i], b = rows[i + block];                                             \
            rows[i] = permute(a, up, b);                                                                \
            rows[i + block] = permute(a, low, b);                                                       \
        }                                                                                               \
    }

INLINE __m512 relu_backward_ps(__m512 out, __m512 gradient) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(out, _mm512_setzero_ps(), _CMP_GT_OQ), gradient);
}

INLINE __mmask16 negative_mask(__m512 x) { return _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ); }

INLINE __m512 load_even_ps(const float *from) { /* those of even index, of 32 */
    static const uint32_t even[16] = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
    return _mm512_permutex2var_ps(_mm512_loadu_ps(from), _mm512_loadu_si512(even), _mm512_loadu_ps(from + 16));
}

#endif

static inline __mmask16 first_of_16(int64_t count) { return (__mmask16)(count < 16 ? (1 << count) - 1 : 0xffff); }

#ifdef FP32

typedef float elem_t;
enum { VNNI = 1 }; /* elements of a column that lie side by side in a B tile */

/* 64 bytes of elements from floats, those that are valid. */
INLINE __m512i load_convert(const float *from, __mmask32 valid) {
    return _mm512_castps_si512(_mm512_maskz_loadu_ps((__mmask16)valid, from));
}
INLINE void store_floats(elem_t *to, __mmask16 valid, __m512 floats) { _mm512_mask_storeu_ps(to, valid, floats); }
INLINE __m512 load_floats(const elem_t *from) { return _mm512_loadu_ps(from); }

/* The first `count` elements of 64 bytes. */
INLINE __m512i load_n(const elem_t *from, int64_t count) { return _mm512_maskz_loadu_epi32(first_of_16(count), from); }
INLINE void store_n(elem_t *to, int64_t count, __m512i x) { _mm512_mask_storeu_epi32(to, first_of_16(count), x); }

INLINE __m512i pack_vnni_floats(const float *row, int64_t line) { return (void)line, _mm512_loadu_si512(row); }

INLINE void pack_vnni_32(const elem_t *row, int64_t line, elem_t *tile, elem_t *next) {
    (void)line;
    _mm512_storeu_ps(tile, _mm512_loadu_ps(row));
    _mm512_storeu_ps(next, _mm512_loadu_ps(row + 16));
}

#define TRANSPOSE_ELEMENTS(rows) TRANSPOSE(rows, 16, uint32_t, _mm512_permutex2var_epi32)

#else

typedef uint16_t elem_t; /* bf16 */
enum { VNNI = 2 };

/* 64 bytes of elements from floats, those that are valid. */
INLINE __m512i load_convert(const float *from, __mmask32 valid) {
    const __m512 low = _mm512_maskz_loadu_ps((__mmask16)valid, from);
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps((__mmask16)(valid >> 16), from + 16), low);
}

/* Rounds 16 floats to elements, and stores those that are valid. */
INLINE void store_floats(elem_t *to, __mmask16 valid, __m512 floats) {
    _mm256_mask_storeu_epi16(to, valid, (__m256i)_mm512_cvtneps_pbh(floats));
}

INLINE __m512 load_floats(const elem_t *from) { /* 16 elements */
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16));
}

static inline __mmask32 first_of_32(int64_t count) { return count < 32 ? ((__mmask32)1 << count) - 1 : ~(__mmask32)0; }

/* The first `count` elements of 64 bytes. */
INLINE __m512i load_n(const elem_t *from, int64_t count) { return _mm512_maskz_loadu_epi16(first_of_32(count), from); }
INLINE void store_n(elem_t *to, int64_t count, __m512i x) { _mm512_mask_storeu_epi16(to, first_of_32(count), x); }

static const uint16_t VNNI_ORDER[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                        8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};

/* 16 floats of each of two rows, `line` apart, as one row of a B tile. */
INLINE __m512i pack_vnni_floats(const float *row, int64_t line) {
    const __m512i two = (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(row + line), _mm512_loadu_ps(row));
    const __m512i from = _mm512_sub_epi16(_mm512_loadu_si512(VNNI_ORDER), _mm512_set1_epi32(16 << 16));
    return _mm512_permutexvar_epi16(from, two);
}

/* 32 elements of each of two rows, `line` apart, as a row of a B tile and a row of the tile beside it. */
INLINE void pack_vnni_32(const elem_t *row, int64_t line, elem_t *tile, elem_t *next) {
    const __m512i a = _mm512_loadu_si512(row), b = _mm512_loadu_si512(row + line), low = _mm512_loadu_si512(VNNI_ORDER);
    _mm512_storeu_si512(tile, _mm512_permutex2var_epi16(a, low, b));
    _mm512_storeu_si512(next, _mm512_permutex2var_epi16(a, _mm512_add_epi16(low, _mm512_set1_epi16(16)), b));
}

#define TRANSPOSE_ELEMENTS(rows) TRANSPOSE(rows, 32, uint16_t, _mm512_permutex2var_epi16)

#endif

enum { LANES = 64 / sizeof(elem_t) };

static inline size_t cache_lines(size_t bytes) { return (bytes + 63) / 64 * 64; } /* rounds up to whole ones */
