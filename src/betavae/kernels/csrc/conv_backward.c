/* wgrad of convolutions, and the backward pass of a layer for a group of images. */

#include "gemm_accumulate.h"
#include "layer.h"
#include "layout.h"
#include "tiles.h"

/* dW (K, kernel, kernel, C) += Y^T (K, pixels) @ X (pixels, C) of each tap, over a group of images.

A is Y, transposed to (K, depth). B is packed once for all taps that see the same pixels: a column of the kernel, and the
rows of a phase modulo stride. */
static void wgrad(const Shape *s, int64_t group, const elem_t *padded, const elem_t *a, elem_t *b, int64_t fresh, float *sums) {
    const PaddedX form = padded_x(s);
    const int64_t pixels = s->P * s->Q, depth = wgrad_depth(s), taps = s->kernel * s->kernel;
    for (int64_t j = 0; j < s->kernel; j++)
        for (int64_t phase = 0; phase < s->stride && phase < s->kernel; phase++) {
            const int64_t rows = s->P + (s->kernel - 1 - phase) / s->stride, size = rows * s->Q * s->C;
            for (int64_t n = 0; n < group; n++)
                pack_vnni(padded + n * form.size + phase * form.line + j * s->C, rows, s->Q, s->C, s->stride * form.line,
                          s->stride * s->C, b + n * size);
            for (int64_t k = 0; k < s->K; k += 32)
                for (int64_t c = 0; c < s->C; c += 32)
                    for (int64_t i = phase; i < s->kernel; i += s->stride)
                        gemm_accumulate(sums + (k * taps + i * s->kernel + j) * s->C + c, taps * s->C * 4, fresh, 1, group,
                                        a + k * depth, depth, depth * s->K, b + (i / s->stride) * s->Q * s->C + VNNI * c, s->C,
                                        size, pixels);
        }
}

/* dW (im2col_rows, K) += im2col(X) (im2col_rows, pixels) @ Y (pixels, K), for one image of pixels X. */
static void wgrad_pixels(const Shape *s, const elem_t *padded, const elem_t *y, int64_t y_line, const Buffers *buffers,
                         int64_t fresh, float *sums) {
    const int64_t pixels = s->P * s->Q, depth = wgrad_depth(s);
    im2col_pixels(s, padded, padded_x(s).line, buffers->a);
    pack_vnni(y, s->P, s->Q, s->K, y_line, s->K, buffers->b);
    configure_tiles(MR, TILE_K);
    for (int64_t v = 0; v < im2col_rows(s); v += MR)
        for (int64_t k = 0; k < s->K; k += 32)
            gemm_accumulate(sums + v * s->K + k, s->K * 4, fresh, 0, 1, buffers->a + v * depth, depth, 0, buffers->b + VNNI * k, s->K,
                            0, pixels);
}

static void small_backward(const Layer *l, int64_t first, int64_t count, const void *gradient, void *in_gradient, int64_t fresh,
                           float *weight_sums, float *bias_sums) {
    if (fresh) memset(weight_sums, 0, (size_t)wgrad_size(&l->shape) * sizeof *weight_sums);
    const void *in = input_at(l, l->in, first), *out = output_at(l, l->out, first);
    const int64_t rows = count * l->shape.P * l->shape.Q;
    if (l->small_linear == SMALL_IN) small_in_backward(l, rows, in, out, gradient, in_gradient, weight_sums, bias_sums);
    else small_out_backward(l, rows, in, gradient, in_gradient, weight_sums, bias_sums);
}

/* Copies image n's X and dY, or dX and Y, into the buffers, and computes dX, or dY, if it is wanted. `x` is its padded copy
of X or dX. Returns Y or dY, whose rows are `y_line` elements apart. */
static const elem_t *input_gradient(const Layer *l, int64_t n, const void *gradient, elem_t *in_gradient, const elem_t *tiles,
                                    float *bias_sums, elem_t *x, elem_t *padded_y, int64_t *y_line) {
    const Shape *s = &l->shape;
    const elem_t *relu_out = l->relu ? output_at(l, l->out, n) : NULL;
    if (l->transposed) {
        copy_padded_x(s, gradient, relu_out, x, bias_sums);
        if (in_gradient) {
            configure_for(s->Q, fprop_depth(s));
            conv_fprop(s, x, tiles, in_gradient, NULL, 0);
        }
        *y_line = s->Q * s->K;
        return input_at(l, l->in, n);
    }
    copy_padded_x(s, input_at(l, l->in, n), NULL, x, NULL);
    copy_padded(gradient, relu_out, s->P, s->Q, s->K, 1, s->Q + 2, padded_y, bias_sums);
    if (in_gradient) {
        configure_for(s->Q, 32);
        conv_dgrad(s, padded_y, tiles, in_gradient, NULL, 0);
    }
    *y_line = (s->Q + 2) * s->K;
    return padded_y + *y_line + s->K;
}

/* Images first .. first + count - 1 of a layer. `gradient` is that of their outputs; `in_gradient` that of their inputs, or
NULL. The gradients of weights and biases are added to sums; those of weights are fresh at first, of any content. */
void layer_backward(const Layer *l, int64_t first, int64_t count, const void *gradient, elem_t *in_gradient, const elem_t *tiles,
                    int64_t fresh, float *weight_sums, float *bias_sums, const Buffers *buffers) {
    const Shape *s = &l->shape;
    const int64_t pixels = s->P * s->Q, depth = wgrad_depth(s), padded_size = padded_x(s).size;
    if (l->small_linear) {
        small_backward(l, first, count, gradient, in_gradient, fresh, weight_sums, bias_sums);
        return;
    }
    for (int64_t n = 0; n < count; n++) {
        elem_t *x = buffers->padded_x + (s->few_channels ? 0 : n * padded_size);
        elem_t *back = in_gradient ? input_at(l, in_gradient, n) : NULL;
        int64_t y_line;
        const elem_t *y = input_gradient(l, first + n, output_at(l, gradient, n), back, tiles, bias_sums, x, buffers->padded_y,
                                         &y_line);
        if (s->few_channels) wgrad_pixels(s, x, y, y_line, buffers, fresh && !n, weight_sums);
        else transpose_image(y, s->P, s->Q, y_line, s->K, depth, buffers->a + n * s->K * depth);
    }
    configure_tiles(MR, pixels < TILE_K ? pixels : TILE_K);
    if (!s->few_channels) wgrad(s, count, buffers->padded_x, buffers->a, buffers->b, fresh, weight_sums);
}
