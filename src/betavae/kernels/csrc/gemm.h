/* The two matrix products that all layers come down to. */

#pragma once

#include "simd.h"

typedef struct { int64_t offset, weights; } Tap; /* of a convolution: its offset in the image; which weights it takes */

typedef struct { /* where an implicit GEMM writes: elements; or, if `pixels` is given, floats in blocks of 4x4 pixels */
    elem_t *elements;
    float *pixels;
    int64_t line, pixel, channels; /* distances of rows and of columns; channels of pixels */
    const float *bias;
    int64_t relu;
} Output;

void implicit_gemm(const elem_t *x, int64_t line, int64_t pixel, int64_t step, int64_t depth, const Tap *taps, int64_t num_taps,
                   const elem_t *weights, int64_t height, int64_t width, int64_t channels, const Output *to);

void gemm_accumulate(float *c, int64_t c_stride, int64_t fresh, int64_t two_tiles, int64_t group, const elem_t *a, int64_t a_line,
                     int64_t a_size, const elem_t *b, int64_t b_channels, int64_t b_size, int64_t pixels);
