/* A layer of a chain: what Python hands over (structs.py), and the sizes that follow from it.

A convolution links an image X (H, W, C) with a smaller or equal one Y (P, Q, K), both NHWC, by weights
(K, kernel, kernel, C). Tap (i, j) of output (p, q) sees X[stride p + i - padding, stride q + j - padding]:

    fprop:  Y = X * W     forward pass of a convolution, dgrad of a transposed one
    dgrad:  X = Y *' W    forward pass of a transposed convolution, dgrad of a convolution
    wgrad:  W = X * Y     of both

K is a multiple of 32. So is C, unless X is pixels: then there are at most 4 channels, and they are floats. A linear layer
is a 1x1 convolution, on images of 4 x 8 rows of the batch. */

#pragma once

#include "simd.h"

typedef struct {
    int64_t H, W, C, P, Q, K, kernel, stride, padding, few_channels; /* few_channels: X is pixels */
} Shape;

typedef struct {
    Shape shape;
    int64_t transposed, relu;          /* from Y to X; followed by a ReLU, never where the output is floats */
    int64_t small_linear;              /* 0; or SMALL_IN, SMALL_OUT: a linear layer in float32 whose inputs, or outputs, are few floats */
    int64_t images;                    /* in the batch */
    int64_t table_rows, table_columns; /* nonzero: the input is the output before, each table (rows, columns) of it transposed */
    void *in, *out;
    const float *weight, *bias;
    float *weight_gradient, *bias_gradient;
    elem_t *sum; /* of a residual layer: in + scale (out - mean) / sqrt(variance + epsilon) + shift; else NULL */
    const float *scale, *shift;
    float *mean, *variance, *scale_gradient, *shift_gradient;
    int64_t batch_statistics; /* whether mean and variance are those of the batch, and written here */
    double epsilon;
} Layer;

enum { MAX_LAYERS = 16 };
enum { SMALL_IN = 1, SMALL_OUT = 2 };
enum { MAX_SMALL = 64 };            /* inputs, or outputs, of a small linear layer */
enum { GROUP = 4 };                 /* images that a thread takes backward through a layer at a time */
enum { MAX_ROWS = 32 * GROUP };     /* rows of the batch in them */

static inline int64_t blocks_of_32(int64_t channels) { return (channels + 31) / 32; }

/* ---- images of a layer: how many elements, and where image n is; pixels and small inputs and outputs are floats ---- */

static inline int64_t x_size(const Shape *s) { return s->H * s->W * s->C; }
static inline int64_t y_size(const Shape *s) { return s->P * s->Q * s->K; }
static inline int64_t in_size(const Layer *l) { return l->transposed ? y_size(&l->shape) : x_size(&l->shape); }
static inline int64_t out_size(const Layer *l) { return l->transposed ? x_size(&l->shape) : y_size(&l->shape); }
static inline int64_t num_biases(const Layer *l) { return l->transposed ? l->shape.C : l->shape.K; }

static inline void *input_at(const Layer *l, const void *inputs, int64_t n) {
    const int floats = (l->shape.few_channels && !l->transposed) || l->small_linear == SMALL_IN;
    return (char *)inputs + n * in_size(l) * (int64_t)(floats ? sizeof(float) : sizeof(elem_t));
}

static inline int64_t out_bytes(const Layer *l) {
    const int floats = (l->shape.few_channels && l->transposed) || l->small_linear == SMALL_OUT;
    return out_size(l) * (int64_t)(floats ? sizeof(float) : sizeof(elem_t));
}

static inline void *output_at(const Layer *l, const void *outputs, int64_t n) { return (char *)outputs + n * out_bytes(l); }

/* ---- copies with borders of zeros --------------------------------------------------------------------------------- */

typedef struct { int64_t rows, line, size; } PaddedX; /* rows; elements of a row; elements in all */

static inline PaddedX padded_x(const Shape *s) {
    const int64_t seen_rows = (s->P - 1) * s->stride + s->kernel, seen_columns = (s->Q - 1) * s->stride + s->kernel;
    const int64_t rows = s->H + s->padding, columns = s->W + s->padding;
    PaddedX p = {.rows = rows > seen_rows ? rows : seen_rows, .line = (columns > seen_columns ? columns : seen_columns) * s->C};
    p.size = (p.rows * p.line + 64 + 31) / 32 * 32; /* what is read past the end of pixels meets weights of 0 */
    return p;
}

static inline int64_t padded_y_size(const Shape *s) { return (s->P + 2) * (s->Q + 2) * s->K; } /* a border of one */

/* ---- operands of wgrad ---------------------------------------------------------------------------------------------*/

static inline int64_t wgrad_depth(const Shape *s) { return s->P * s->Q < 32 ? 32 : s->P * s->Q; } /* pixels, columns of A */

static inline int64_t im2col_rows(const Shape *s) { /* weights of a kernel on pixels, in tiles of 16 rows */
    return (s->kernel * s->kernel * s->C + 15) / 16 * 16;
}

static inline int64_t wgrad_size(const Shape *s) { /* floats of the sum: (K, kernel, kernel, C), or (im2col_rows, K) for pixels */
    return s->few_channels ? im2col_rows(s) * s->K : s->K * s->kernel * s->kernel * s->C;
}

/* ---- weights as B tiles: [tap][block of 32 channels in][block of 16 channels out], see pack.c ----------------------- */

enum { FPROP, DGRAD, DGRAD_PIXELS };

static inline int64_t fprop_taps(const Shape *s) { return s->few_channels ? s->kernel : s->kernel * s->kernel; }

static inline int64_t fprop_depth(const Shape *s) { /* elements that a tap sees; a tap of pixels is a row of the kernel */
    return s->few_channels ? (s->kernel * s->C + 1) / 2 * 2 : s->C;
}

size_t packed_bytes(const Shape *s);              /* enough for each of the three */
int64_t pack_units(const Shape *s, int which);    /* parts that threads pack one by one */
void pack_weights(const Shape *s, int which, const float *weight, int64_t unit, elem_t *tiles);

/* ---- what other files compute of a layer -----------------------------------------------------------------------------*/

void layer_forward(const Layer *l, int64_t n, const elem_t *tiles, elem_t *padded);

typedef struct { /* a thread's buffers for the backward pass of a layer; the first two have borders of zeros */
    elem_t *padded_x, *padded_y, *a, *b;
} Buffers;

void layer_backward(const Layer *l, int64_t first, int64_t count, const void *gradient, elem_t *in_gradient, const elem_t *tiles,
                    int64_t fresh, float *weight_sums, float *bias_sums, const Buffers *buffers);

void conv_fprop(const Shape *s, const elem_t *padded_x, const elem_t *tiles, elem_t *y, const float *bias, int64_t relu);
void conv_dgrad(const Shape *s, const elem_t *padded_y, const elem_t *tiles, elem_t *x, const float *bias, int64_t relu);
void conv_dgrad_pixels(const Shape *s, const elem_t *padded_y, const elem_t *tiles, float *x, const float *bias);

void configure_for(int64_t width, int64_t depth); /* tiles for rows of `width` pixels and taps of `depth` elements */

void small_in_forward(const Layer *l, const float *in, elem_t *out);
void small_out_forward(const Layer *l, const elem_t *in, float *out);
void small_in_backward(const Layer *l, int64_t rows, const float *in, const elem_t *out, const elem_t *gradient, float *in_gradient,
                       float *weight_sums, float *bias_sums);
void small_out_backward(const Layer *l, int64_t rows, const elem_t *in, const float *gradient, elem_t *in_gradient,
                        float *weight_sums, float *bias_sums);
