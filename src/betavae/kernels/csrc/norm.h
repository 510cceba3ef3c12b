/* Residual layers: sum = in + BatchNorm(out), where out = ReLU(conv(in)). */

#pragma once

#include "layer.h"

typedef struct { /* of one such layer */
    double *moments; /* (threads, 2, K): two sums over pixels of each channel */
    float *factors;  /* (3, K): a, b, c of a x + b y + c, which combines two images */
} Norm;

size_t allocate_norms(const Layer *layers, int64_t count, int64_t threads, char *memory, Norm *norms);

void clear_moments(const Layer *l, const Norm *norm, int64_t thread);
void add_moments(const Layer *l, const Norm *norm, int64_t thread, const elem_t *x, const elem_t *y);

void norm_forward_factors(const Layer *l, const Norm *norm, int64_t parts);
void norm_backward_factors(const Layer *l, const Norm *norm, int64_t parts);

void combine(const Layer *l, const elem_t *x, const elem_t *y, const float *factors, elem_t *to);
void residual_sum(const Layer *l, const Norm *norm, int64_t n);
void add_to(elem_t *image, const elem_t *more, int64_t size);

static inline elem_t *out_image(const Layer *l, const void *images, int64_t n) { return (elem_t *)images + n * out_size(l); }
