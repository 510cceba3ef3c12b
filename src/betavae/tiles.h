/* Intel's AMX tiles, and what code that multiplies by them shares.

A tile is 16 rows of 64 bytes. One instruction adds to 16 x 16 fp32 sums the products of 16 x 32 bf16 values (rows of
a left tile) and 32 x 16 (a right tile, in which two rows of the matrix share one row of the tile, interleaved). */

#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint16_t bf16;

static const uint16_t INTERLEAVED[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                         8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};

/* Memory of a thread, kept from call to call. */
enum { SHARED, OWN }; /* what all threads of a call see; what one of them works in */

static _Thread_local struct { char *start; size_t size; } arenas[2];

static void *memory_of(int which, size_t size) {
    if (arenas[which].size < size) {
        free(arenas[which].start);
        arenas[which].start = aligned_alloc(64, size);
        arenas[which].size = arenas[which].start ? size : 0;
    }
    return arenas[which].start;
}

static inline size_t lines(size_t bytes) { return (bytes + 63) / 64 * 64; } /* whole cache lines */

static void configure(int64_t rows, int64_t depth) { /* tiles 0-3: sums; 4, 5: left, rows x depth; 6, 7: right, depth x 16 */
    struct { uint8_t palette, start, reserved[14]; uint16_t bytes[16]; uint8_t rows[16]; } config = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        config.rows[tile] = (uint8_t)(tile < 6 ? rows : depth / 2);
        config.bytes[tile] = (uint16_t)(tile == 4 || tile == 5 ? 2 * depth : 64);
    }
    _tile_loadconfig(&config);
}

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
