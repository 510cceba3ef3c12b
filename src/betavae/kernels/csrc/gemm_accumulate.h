/* The product of wgrad: C += A @ B, summed over images. Static in the one file that includes it, as implicit_gemm.h.

C (16 or 32, 32) has rows `c_stride` bytes apart; where it is fresh it counts as zeros. For each of `group` images, A (32,
pixels) has rows of `a_line` elements, and B (pixels, 32) is part of a matrix of `b_channels` columns, packed for VNNI. */

#pragma once

#include "tiles.h"

#ifdef __AMX_BF16__

static void gemm_accumulate(float *c, int64_t c_stride, int64_t fresh, int64_t two_tiles, int64_t group, const elem_t *a, int64_t a_line,
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

static void gemm_accumulate(float *c, int64_t c_stride, int64_t fresh, int64_t two_tiles, int64_t group, const elem_t *a, int64_t a_line,
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
