/* Copies of images into the layouts that tiles are loaded from. */

#pragma once

#include "layer.h"

void copy_padded(const elem_t *image, const elem_t *relu_out, int64_t height, int64_t width, int64_t channels, int64_t border,
                 int64_t padded_width, elem_t *padded, float *channel_sums);
void copy_padded_x(const Shape *s, const void *x, const elem_t *relu_out, elem_t *padded, float *channel_sums);
void pack_vnni(const elem_t *image, int64_t height, int64_t width, int64_t channels, int64_t line, int64_t step, elem_t *b);
void im2col_pixels(const Shape *s, const elem_t *padded, int64_t line, elem_t *a);
void transpose_image(const elem_t *image, int64_t height, int64_t width, int64_t line, int64_t channels, int64_t depth,
                     elem_t *transposed);
void transpose_tables(const elem_t *from, int64_t rows, int64_t columns, int64_t size, elem_t *to);
