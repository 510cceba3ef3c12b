/* The implicit GEMM: a convolution whose A is read from the image, without im2col.

Static in the one file that includes it, so that the compiler sees its arguments: 10 % of a training step with AVX2. */

#pragma once

#include "layer.h"
#include "tiles.h"

typedef struct { int64_t offset, weights; } Tap; /* of a convolution: its offset in the image; which weights it takes */

typedef struct { /* where an implicit GEMM writes: elements; or, if `pixels` is given, floats in blocks of 4x4 pixels */
    elem_t *elements;
    float *pixels;
    int64_t line, pixel, channels; /* distances of rows and of columns; channels of pixels */
    const float *bias;
    int64_t relu;
} Output;

/* C (count, 16) plus bias, through a ReLU where there is one, to channels c .. c + 15 of `count` pixels. */
static void store_channels(const float *sums, int64_t count, const Output *to, int64_t offset, int64_t c) {
    const __m512 zero = _mm512_setzero_ps(), bias = to->bias ? _mm512_loadu_ps(to->bias + c) : zero;
    for (int64_t i = 0; i < count; i++, sums += 16, offset += to->pixel) {
        __m512 values = _mm512_add_ps(_mm512_load_ps(sums), bias);
        if (to->relu) values = _mm512_max_ps(zero, values); /* NaN stays NaN */
        store_floats(to->elements + offset + c, 0xffff, values);
    }
}

/* C (count, 16) plus bias, of blocks of 4x4 pixels: column c is channel c % channels of pixel c / channels. */
static void store_blocks(const float *sums, int64_t count, const Output *to, int64_t offset, int64_t c) {
    for (int64_t quarter = 0; quarter < 4; quarter++) {
        const int64_t four = c / 4 + quarter; /* a row of a block is `channels` times four floats */
        const __m128 bias = _mm_loadu_ps(to->bias + 4 * four);
        float *pixels = to->pixels + offset + four / to->channels * to->line / 4 + four % to->channels * 4;
        for (int64_t i = 0; i < count; i++, pixels += to->pixel)
            _mm_storeu_ps(pixels, _mm_add_ps(_mm_load_ps(sums + 16 * i + 4 * quarter), bias));
    }
}

#ifdef __AMX_BF16__

/* C of four rows of `count` pixels each, by 16 channels: sums (4, count, 16). */
INLINE void multiply_four_rows(const elem_t *x, int64_t a_stride, int64_t down, int64_t depth, const Tap *taps, int64_t num_taps,
                               const elem_t *weights, int64_t blocks, int64_t width, int64_t count, float (*sums)[16]) {
    (void)width;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t t = 0; t < num_taps; t++) {
        const elem_t *b = weights + taps[t].weights * blocks_of_32(depth) * blocks * B_TILE;
        for (int64_t k = 0; k < depth; k += TILE_K, b += blocks * B_TILE) {
            const elem_t *a = x + taps[t].offset + k;
            _tile_loadd(6, b, 64);
            _tile_loadd(4, a, a_stride);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(5, a + down, a_stride);
            _tile_dpbf16ps(1, 5, 6);
            _tile_loadd(4, a + 2 * down, a_stride);
            _tile_dpbf16ps(2, 4, 6);
            _tile_loadd(5, a + 3 * down, a_stride);
            _tile_dpbf16ps(3, 5, 6);
        }
    }
    _tile_stored(0, sums[0 * count], 64);
    _tile_stored(1, sums[1 * count], 64);
    _tile_stored(2, sums[2 * count], 64);
    _tile_stored(3, sums[3 * count], 64);
}

#else

/* C (16, 16) of 16 pixels, in rows of `width`, summed over all taps. */
INLINE void multiply_taps(int width, const elem_t *x, int64_t a_stride, int64_t row_stride, int64_t depth, const Tap *taps,
                          int64_t num_taps, const elem_t *weights, int64_t blocks, float *to) {
    __m512 c[16];
    load_tile(c, NULL, 0);
    for (int64_t t = 0; t < num_taps; t++) {
        const elem_t *b = weights + taps[t].weights * blocks_of_32(depth) * blocks * B_TILE;
        for (int64_t k = 0; k < depth; k += TILE_K, b += blocks * B_TILE)
            tile_fma(c, width, x + taps[t].offset + k, a_stride, row_stride, depth < TILE_K ? depth : TILE_K, b, 64);
    }
    store_tile(c, to, 16);
}

/* C of four rows of `count` pixels each, by 16 channels: sums (4, count, 16). */
INLINE void multiply_four_rows(const elem_t *x, int64_t a_stride, int64_t down, int64_t depth, const Tap *taps, int64_t num_taps,
                               const elem_t *weights, int64_t blocks, int64_t width, int64_t count, float (*sums)[16]) {
    (void)count;
    const int64_t row_stride = down * (int64_t)sizeof(elem_t);
    if (width == 4) multiply_taps(4, x, a_stride, row_stride, depth, taps, num_taps, weights, blocks, sums[0]);
    for (int i = 0; i < 4 && width == 8; i += 2)
        multiply_taps(8, x + i * down, a_stride, row_stride, depth, taps, num_taps, weights, blocks, sums[i * 8]);
    for (int i = 0; i < 4 && width >= 16; i++)
        multiply_taps(16, x + i * down, a_stride, 0, depth, taps, num_taps, weights, blocks, sums[i * 16]);
}

#endif

/* out[y, x] = sum over taps of  x[offset of the tap + (y line + x pixel) step] (depth,) @ W[tap] (depth, channels).

Weights are B tiles: [tap][block of 32 of depth][block of 16 channels]. Four rows of up to 16 pixels are computed at a
time, for 16 channels: pixels that all taps share stay in the L1 cache, and weights stream through it. */
static void implicit_gemm(const elem_t *image, int64_t line, int64_t pixel, int64_t step, int64_t depth, const Tap *taps, int64_t num_taps,
                   const elem_t *weights, int64_t height, int64_t width, int64_t channels, const Output *to) {
    const int64_t blocks = channels / NR, count = width < 16 ? width : 16, down = step * line;
    const int64_t a_stride = step * pixel * (int64_t)sizeof(elem_t);
    float sums[4 * 16][16] __attribute__((aligned(64)));
    for (int64_t y = 0; y < height; y += 4)
        for (int64_t x = 0; x < width; x += 16)
            for (int64_t c = 0; c < blocks; c++) {
                const elem_t *start = image + y * down + x * step * pixel;
                multiply_four_rows(start, a_stride, down, depth, taps, num_taps, weights + c * B_TILE, blocks, width, count, sums);
                for (int i = 0; i < 4; i++) {
                    const int64_t offset = (y + i) * to->line + x * to->pixel;
                    if (to->pixels) store_blocks(sums[i * count], count, to, offset, c * NR);
                    else store_channels(sums[i * count], count, to, offset, c * NR);
                }
            }
}
