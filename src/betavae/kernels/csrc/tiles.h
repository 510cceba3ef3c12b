/* What code that multiplies small matrices shares: the type of values, the tiles that they are multiplied in, memory.

A tile is 16 rows of 64 bytes. One product adds to 16 x 16 fp32 sums those of a left tile, 16 rows of 32 bf16 values, and
a right tile, 32 rows of 16, of which two share one row of the tile, interleaved. Intel's AMX does it in an instruction;
where a CPU has no tiles, 16 registers of AVX-512 are the sums. With FP32 defined values are floats, and a right tile of
32 rows of 16 is two tiles long. */

#pragma once

#include <immintrin.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

#ifndef __AVX512F__
#include "avx2.h"
#define TRANSPOSE(rows, size, word, permute) avx2_transpose_16(rows);
#define where_positive_ps avx2_where_positive
#define every_other_ps avx2_every_other
#define negative avx2_negative
#else

/* A square of `size` registers by `size` values of type `word`, transposed in place: swaps off-diagonal blocks of 1, 2,
4 ... values. A macro, so that `permute` is an instruction and all loops unroll. */
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

INLINE __m512 where_positive_ps(__m512 shown, __m512 values) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(shown, _mm512_setzero_ps(), _CMP_GT_OQ), values);
}

INLINE __mmask16 negative(__m512 values) { return _mm512_cmp_ps_mask(values, _mm512_setzero_ps(), _CMP_LT_OQ); }

INLINE __m512 every_other_ps(const float *from) { /* of 32 */
    static const uint32_t even[16] = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
    return _mm512_permutex2var_ps(_mm512_loadu_ps(from), _mm512_loadu_si512(even), _mm512_loadu_ps(from + 16));
}

#endif

static inline __mmask16 first_of_16(int64_t count) { return (__mmask16)(count < 16 ? (1 << count) - 1 : 0xffff); }

/* ---- values: of images, and of weights as they are multiplied ------------------------------------------------------*/

#ifdef FP32

typedef float value;
enum { PAIR = 1 }; /* rows of a matrix in one row of a right tile */

INLINE __m512i values_of(const float *from, __mmask32 valid) { return _mm512_castps_si512(_mm512_maskz_loadu_ps((__mmask16)valid, from)); }
INLINE void put(value *to, __mmask16 there, __m512 floats) { _mm512_mask_storeu_ps(to, there, floats); }
INLINE __m512 floats_of(const value *from) { return _mm512_loadu_ps(from); }

/* 64 bytes of values, of which only so many are there. */
INLINE __m512i load_first(const value *from, int64_t count) { return _mm512_maskz_loadu_epi32(first_of_16(count), from); }
INLINE void store_first(value *to, int64_t count, __m512i values) { _mm512_mask_storeu_epi32(to, first_of_16(count), values); }

INLINE __m512i paired(const float *row, int64_t line) { return (void)line, _mm512_loadu_si512(row); }

INLINE void interleave(const value *row, int64_t line, value *tile, value *next) {
    (void)line;
    _mm512_storeu_ps(tile, _mm512_loadu_ps(row));
    _mm512_storeu_ps(next, _mm512_loadu_ps(row + 16));
}

#define TRANSPOSE_VALUES(rows) TRANSPOSE(rows, 16, uint32_t, _mm512_permutex2var_epi32)

#else

typedef uint16_t value; /* bf16 */
enum { PAIR = 2 };

/* As many floats as make 64 bytes of values, those that are valid. */
INLINE __m512i values_of(const float *from, __mmask32 valid) {
    const __m512 low = _mm512_maskz_loadu_ps((__mmask16)valid, from);
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps((__mmask16)(valid >> 16), from + 16), low);
}

/* 16 floats, those that are there, as values in memory. */
INLINE void put(value *to, __mmask16 there, __m512 floats) {
    _mm256_mask_storeu_epi16(to, there, (__m256i)_mm512_cvtneps_pbh(floats));
}

INLINE __m512 floats_of(const value *from) { /* 16 of them */
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16));
}

static inline __mmask32 first_of_32(int64_t count) { return count < 32 ? ((__mmask32)1 << count) - 1 : ~(__mmask32)0; }

/* 64 bytes of values, of which only so many are there. */
INLINE __m512i load_first(const value *from, int64_t count) { return _mm512_maskz_loadu_epi16(first_of_32(count), from); }
INLINE void store_first(value *to, int64_t count, __m512i values) { _mm512_mask_storeu_epi16(to, first_of_32(count), values); }

static const uint16_t INTERLEAVED[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                         8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};

/* 16 floats of each row of a pair, `line` apart, as the row of a right tile that they share. */
INLINE __m512i paired(const float *row, int64_t line) {
    const __m512i two = (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(row + line), _mm512_loadu_ps(row));
    const __m512i from = _mm512_sub_epi16(_mm512_loadu_si512(INTERLEAVED), _mm512_set1_epi32(16 << 16));
    return _mm512_permutexvar_epi16(from, two);
}

/* 32 values of each row of a pair, `line` apart, into the row that they share in one right tile and in the next. */
INLINE void interleave(const value *row, int64_t line, value *tile, value *next) {
    const __m512i a = _mm512_loadu_si512(row), b = _mm512_loadu_si512(row + line), low = _mm512_loadu_si512(INTERLEAVED);
    _mm512_storeu_si512(tile, _mm512_permutex2var_epi16(a, low, b));
    _mm512_storeu_si512(next, _mm512_permutex2var_epi16(a, _mm512_add_epi16(low, _mm512_set1_epi16(16)), b));
}

#define TRANSPOSE_VALUES(rows) TRANSPOSE(rows, 32, uint16_t, _mm512_permutex2var_epi16)

#endif

enum { LANES = 64 / sizeof(value) };

/* An image (height, width, channels), rows of which are `line` values apart, as (channels, pixels), of which there are
`depth` at least: those that are missing are 0. */
static inline void transpose(const value *image, int64_t height, int64_t width, int64_t line, int64_t channels, int64_t depth,
                      value *turned) {
    const int64_t pixels = height * width;
    for (int64_t c = 0; c < channels; c += LANES)
        for (int64_t p = 0; p < depth; p += LANES) {
            __m512i rows[LANES];
            for (int64_t i = 0; i < LANES; i++) {
                const int64_t pixel = p + i;
                rows[i] = pixel < pixels ? _mm512_loadu_si512(image + pixel / width * line + pixel % width * channels + c)
                                         : _mm512_setzero_si512();
            }
            TRANSPOSE_VALUES(rows)
            for (int64_t i = 0; i < LANES; i++) _mm512_storeu_si512(turned + (c + i) * depth + p, rows[i]);
        }
}

/* ---- products -----------------------------------------------------------------------------------------------------*/

#ifdef __AMX_BF16__

/* Tiles 0 to 3 are sums, 4 and 5 left ones, of `rows` of `depth` values, 6 and 7 right ones, of `depth` of 16. */
static inline void configure(int64_t rows, int64_t depth) {
    struct { uint8_t palette, start, reserved[14]; uint16_t bytes[16]; uint8_t rows[16]; } config = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        config.rows[tile] = (uint8_t)(tile < 6 ? rows : depth / 2);
        config.bytes[tile] = (uint16_t)(tile == 4 || tile == 5 ? 2 * depth : 64);
    }
    _tile_loadconfig(&config);
}

static inline void release(void) { _tile_release(); }

#else /* registers */

static inline void configure(int64_t rows, int64_t depth) { (void)rows, (void)depth; }
static inline void release(void) {}

#ifndef __AVX512F__

/* Adds to four rows of sums, in 8 registers, the product of four left rows, `apart` bytes apart, and a right tile, `next`
bytes from row to row. A function of its own, so that all addresses fit into registers. */
__attribute__((noinline)) static void add_four(__m512 *sums, const char *left, int64_t apart, int64_t depth, const char *right,
                                               int64_t next) {
    const char *const second = left + apart, *const third = second + apart, *const fourth = third + apart;
    __m256 a0 = sums[0].half[0], a1 = sums[1].half[0], a2 = sums[2].half[0], a3 = sums[3].half[0];
    __m256 b0 = sums[0].half[1], b1 = sums[1].half[1], b2 = sums[2].half[1], b3 = sums[3].half[1];
    for (int64_t k = 0; k < 4 * depth; k += 4, right += next) {
        const __m256 a = _mm256_loadu_ps((const float *)right), b = _mm256_loadu_ps((const float *)right + 8);
        const __m256 r0 = _mm256_broadcast_ss((const float *)(left + k)), r1 = _mm256_broadcast_ss((const float *)(second + k));
        a0 = _mm256_fmadd_ps(a, r0, a0), b0 = _mm256_fmadd_ps(b, r0, b0);
        a1 = _mm256_fmadd_ps(a, r1, a1), b1 = _mm256_fmadd_ps(b, r1, b1);
        const __m256 r2 = _mm256_broadcast_ss((const float *)(third + k)), r3 = _mm256_broadcast_ss((const float *)(fourth + k));
        a2 = _mm256_fmadd_ps(a, r2, a2), b2 = _mm256_fmadd_ps(b, r2, b2);
        a3 = _mm256_fmadd_ps(a, r3, a3), b3 = _mm256_fmadd_ps(b, r3, b3);
    }
    sums[0] = (__m512){{a0, b0}}, sums[1] = (__m512){{a1, b1}}, sums[2] = (__m512){{a2, b2}}, sums[3] = (__m512){{a3, b3}};
}

#endif

/* Adds to 16 rows of sums the product of a left tile and a right one, `next` bytes from row to row. The rows of the left
tile are `down` bytes from one `width` of them to the next, in which they lie `apart`. */
INLINE void add_product(__m512 *sums, int width, const void *left, int64_t apart, int64_t down, int64_t depth,
                        const void *right, int64_t next) {
    const char *four[4], *pairs = right;
    for (int i = 0; i < 4; i++) four[i] = (const char *)left + 4 * i / width * down + 4 * i % width * apart;
#ifndef __AVX512F__
    for (int i = 0; i < 4; i++) add_four(sums + 4 * i, four[i], apart, depth, pairs, next);
#else
    const int64_t along[4] = {0, apart, 2 * apart, 3 * apart};
    _Pragma("GCC unroll 2") for (int64_t k = 0; k < depth * (int64_t)sizeof(value); k += 4, pairs += next) {
        const __m512i pair = _mm512_loadu_si512(pairs);
        _Pragma("GCC unroll 16") for (int i = 0; i < 16; i++) {
            int32_t both;
            memcpy(&both, four[i / 4] + along[i % 4] + k, sizeof both);
            const __m512i one = _mm512_set1_epi32(both);
#ifdef FP32
            sums[i] = _mm512_fmadd_ps((__m512)pair, (__m512)one, sums[i]);
#else
            sums[i] = _mm512_dpbf16_ps(sums[i], (__m512bh)pair, (__m512bh)one);
#endif
        }
    }
#endif
}

INLINE void load_sums(__m512 *sums, const float *from, int64_t apart) {
    _Pragma("GCC unroll 16") for (int i = 0; i < 16; i++) sums[i] = from ? _mm512_loadu_ps(from + i * apart) : _mm512_setzero_ps();
}

INLINE void store_sums(const __m512 *sums, float *to, int64_t apart) {
    _Pragma("GCC unroll 16") for (int i = 0; i < 16; i++) _mm512_storeu_ps(to + i * apart, sums[i]);
}

#endif

static inline size_t lines(size_t bytes) { return (bytes + 63) / 64 * 64; } /* whole cache lines */

/* ---- what files have of one another -------------------------------------------------------------------------------*/

float bernoulli_image(const float *logits, const float *pixels, int64_t size, float weight, float *gradient);

/* ---- memory of a thread, kept from call to call until it ends ------------------------------------------------------*/

enum { SHARED, OWN }; /* what all threads of a call see; what one of them works in */

typedef struct { char *start; size_t size; } Arena;

static _Thread_local Arena arenas[2];
static pthread_key_t ending;

static void give_back(void *of_thread) {
    Arena *both = of_thread;
    for (int i = 0; i < 2; i++) {
        free(both[i].start);
        both[i] = (Arena){NULL, 0};
    }
}

static void make_key(void) { pthread_key_create(&ending, give_back); }

static inline void *memory_of(int which, size_t size) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    Arena *arena = arenas + which;
    if (!arena->start || arena->size < size) {
        pthread_once(&once, make_key);
        pthread_setspecific(ending, arenas);
        free(arena->start);
        arena->start = aligned_alloc(64, lines(size + 1)); /* never 0 bytes */
        arena->size = arena->start ? size : 0;
    }
    return arena->start;
}
