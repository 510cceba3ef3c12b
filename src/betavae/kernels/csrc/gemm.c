/* See gemm.h. */

#include "gemm.h"

#include "layer.h"
#include "tiles.h"

/* ---- implicit GEMM: a convolution whose A is read from the image, without im2col ---------------------------------- */

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
void implicit_gemm(const elem_t *image, int64_t line, int64_t pixel, int64_t step, int64_t depth, const Tap *taps, int64_t num_taps,
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

/* ---- C += A @ B, summed over images: wgrad --------------------------------------------------------------------------

C (16 or 32, 32), rows `c_stride` bytes apart; zeros at first where it is fresh. For each of `group` images, A (32, pixels)
has rows of `a_line` elements, and B (pixels, 32) is part of a matrix of `b_channels` columns, packed for VNNI. */

#ifdef __AMX_BF16__

void gemm_accumulate(float *c, int64_t c_stride, int64_t fresh, int64_t two_tiles, int64_t group, const elem_t *a, int64_t a_line,
                     int64_t a_size, const elem_t *b, int64_t b_channels, int64_t b_size, int64_t pixels) {
    float *lower = c + 4 * c_stride;
    if (fresh) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_loadd(0, c, c_stride);
        _tile_loadd(2, c + 16, c_stride);
        if (two_tiles) {
            _tile_loadd(1, lower, c_stride);
            _tile_loadd(3, lower + 16, c_stride);
        }
    }
    for (int64_t n = 0; n < group; n++)
        for (int64_t p = 0; p < pixels; p += TILE_K) {
            const elem_t *rows = a + n * a_size + p, *columns = b + n * b_size + p * b_channels;
            _tile_loadd(4, rows, a_line * 2);
            _tile_loadd(6, columns, b_channels * 4);
            _tile_loadd(7, columns + 32, b_channels * 4);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(2, 4, 7);
            if (!two_tiles) continue;
            _tile_loadd(5, rows + 16 * a_line, a_line * 2);
            _tile_dpbf16ps(1, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    _tile_stored(0, c, c_stride);
    _tile_stored(2, c + 16, c_stride);
    if (two_tiles) {
        _tile_stored(1, lower, c_stride);
        _tile_stored(3, lower + 16, c_stride);
    }
}

#else

void gemm_accumulate(float *c, int64_t c_stride, int64_t fresh, int64_t two_tiles, int64_t group, const elem_t *a, int64_t a_line,
                     int64_t a_size, const elem_t *b, int64_t b_channels, int64_t b_size, int64_t pixels) {
    for (int quarter = 0; quarter < 4; quarter++) {
        const int64_t row = quarter / 2 * 16, column = quarter % 2 * 16;
        if (row && !two_tiles) break;
        float *here = c + row * c_stride / 4 + column;
        __m512 tile[16];
        load_tile(tile, fresh ? NULL : here, c_stride / 4);
        for (int64_t n = 0; n < group; n++)
            for (int64_t p = 0; p < pixels; p += TILE_K)
                tile_fma(tile, 16, a + n * a_size + row * a_line + p, a_line * (int64_t)sizeof(elem_t), 0,
                         pixels < TILE_K ? pixels : TILE_K, b + n * b_size + p * b_channels + VNNI * column, b_channels * 4);
        store_tile(tile, here, c_stride / 4);
    }
}

#endif
