/* fprop and dgrad of convolutions as implicit GEMMs, and the forward pass of a layer for one image. */

#include "implicit_gemm.h"
#include "layer.h"
#include "layout.h"
#include "tiles.h"

/* Y (P, Q, K) = X * W. A tap is a pixel of the kernel, or a row of it on pixels, whose columns lie side by side. */
void conv_fprop(const Shape *s, const elem_t *padded, const elem_t *tiles, elem_t *y, const float *bias, int64_t relu) {
    const int64_t line = padded_x(s).line, columns = s->few_channels ? 1 : s->kernel;
    Output to = {.elements = y, .line = s->Q * s->K, .pixel = s->K, .bias = bias, .relu = relu};
    Tap taps[16];
    for (int64_t t = 0; t < fprop_taps(s); t++) taps[t] = (Tap){t / columns * line + t % columns * s->C, t};
    implicit_gemm(padded, line, s->C, s->stride, fprop_depth(s), taps, fprop_taps(s), tiles, s->P, s->Q, s->K, &to);
}

/* X (H, W, C) = Y *' W. The pixels of X of each phase (y, x modulo stride) are a convolution of Y, padded by one. */
void conv_dgrad(const Shape *s, const elem_t *padded_y, const elem_t *tiles, elem_t *x, const float *bias, int64_t relu) {
    const int64_t line = (s->Q + 2) * s->K, stride = s->stride;
    for (int64_t py = 0; py < stride; py++)
        for (int64_t px = 0; px < stride; px++) {
            Tap taps[16];
            int64_t count = 0;
            for (int64_t i = (py + s->padding) % stride; i < s->kernel; i += stride)
                for (int64_t j = (px + s->padding) % stride; j < s->kernel; j += stride)
                    taps[count++] = (Tap){(1 + (py + s->padding - i) / stride) * line +
                                              (1 + (px + s->padding - j) / stride) * s->K,
                                          i * s->kernel + j};
            Output to = {.elements = x + (py * s->W + px) * s->C, .line = stride * s->W * s->C, .pixel = stride * s->C,
                         .bias = bias, .relu = relu};
            implicit_gemm(padded_y, line, s->K, 1, s->K, taps, count, tiles, s->P, s->Q, s->C, &to);
        }
}

/* The same for pixels, at stride 2: blocks of 4x4 pixels are the channels of a convolution of Y, 4x4 with stride 2. */
void conv_dgrad_pixels(const Shape *s, const elem_t *padded_y, const elem_t *tiles, float *x, const float *bias) {
    const int64_t line = (s->Q + 2) * s->K;
    float block_bias[64];
    for (int64_t i = 0; i < 16 * s->C; i++) block_bias[i] = bias[i % s->C];
    Tap taps[16];
    for (int64_t t = 0; t < 16; t++) taps[t] = (Tap){t / 4 * line + t % 4 * s->K, t};
    Output to = {.pixels = x, .line = 4 * s->W * s->C, .pixel = 4 * s->C, .channels = s->C, .bias = block_bias};
    implicit_gemm(padded_y, line, s->K, 2, s->K, taps, 16, tiles, s->P / 2, s->Q / 2, 16 * s->C, &to);
}

void configure_for(int64_t width, int64_t depth) {
    configure_tiles(width < MR ? width : MR, depth < TILE_K ? depth : TILE_K);
}

/* Image n of a layer from `in` to `out`. `padded` has borders of zeros. */
void layer_forward(const Layer *l, int64_t n, const elem_t *tiles, elem_t *padded) {
    const Shape *s = &l->shape;
    const void *in = input_at(l, l->in, n);
    void *out = output_at(l, l->out, n);
    if (l->small_linear == SMALL_IN) {
        small_in_forward(l, in, out);
    } else if (l->small_linear == SMALL_OUT) {
        small_out_forward(l, in, out);
    } else if (!l->transposed) {
        configure_for(s->Q, fprop_depth(s));
        copy_padded_x(s, in, NULL, padded, NULL);
        conv_fprop(s, padded, tiles, out, l->bias, l->relu);
    } else {
        copy_padded(in, NULL, s->P, s->Q, s->K, 1, s->Q + 2, padded, NULL);
        configure_for(s->few_channels ? s->Q / 2 : s->Q, 32);
        if (s->few_channels) conv_dgrad_pixels(s, padded, tiles, out, l->bias);
        else conv_dgrad(s, padded, tiles, out, l->bias, l->relu);
    }
}
