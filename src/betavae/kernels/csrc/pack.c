/* Weights, floats (K, kernel, kernel, C), into B tiles: [tap][block of 32 channels in][block of 16 channels out]. */

#include "layer.h"
#include "tiles.h"

/* B (C, K) of each tap; for pixels B (kernel * C, K) of each row of the kernel, whose columns lie side by side in X. */
static void pack_fprop(const Shape *s, const float *weight, int64_t unit, elem_t *tiles) {
    const int64_t taps = fprop_taps(s), seen = s->few_channels ? s->kernel * s->C : s->C;
    const int64_t t = unit / blocks_of_32(seen), k = unit % blocks_of_32(seen) * 32, left = seen - k;
    const __mmask32 valid = left < 32 ? (__mmask32)((1u << left) - 1) : ~(__mmask32)0;
    tiles += unit * s->K * 32;
    for (int64_t n = 0; n < s->K; n += NR)
        for (int64_t half = 0; half < 32; half += LANES, tiles += 16 * LANES) {
            __m512i rows[16];
            for (int64_t i = 0; i < 16; i++)
                rows[i] = load_convert(weight + ((n + i) * taps + t) * seen + k + half, valid >> half);
            TRANSPOSE(rows, 16, uint32_t, _mm512_permutex2var_epi32)
            for (int i = 0; i < 16; i++) _mm512_storeu_si512(tiles + LANES * i, rows[i]);
        }
}

/* B (K, C) of each tap. */
static void pack_dgrad(const Shape *s, const float *weight, int64_t unit, elem_t *tiles) {
    const int64_t row = s->kernel * s->kernel * s->C, t = unit / (s->K / 32), k = unit % (s->K / 32) * 32;
    tiles += unit * s->C * 32;
    for (int64_t n = 0; n < s->C; n += NR)
        for (int64_t i = 0; i < 32; i += VNNI, tiles += LANES)
            _mm512_storeu_si512(tiles, pack_vnni_floats(weight + (k + i) * row + t * s->C + n, row));
}

/* B (K, 16 C) of each of 16 taps. A block of 4x4 pixels of X follows from 4x4 pixels of Y, around 2x2 that it belongs to.
Its pixels and channels are the columns of B: pixel row y takes from row t of Y with row y + padding + 2 - 2 t of the
kernel. */
static void pack_dgrad_pixels(const Shape *s, const float *weight, elem_t *tiles) {
    memset(tiles, 0, (size_t)(16 * s->K * 16 * s->C) * sizeof(elem_t));
    for (int64_t t = 0; t < 16; t++)
        for (int64_t column = 0; column < 16 * s->C; column++) {
            const int64_t i = column / s->C / 4 + s->padding + 2 - t / 4 * 2, j = column / s->C % 4 + s->padding + 2 - t % 4 * 2;
            if (i < 0 || j < 0 || i >= s->kernel || j >= s->kernel) continue;
            for (int64_t k = 0; k < s->K; k++) {
                const float w = weight[((k * s->kernel + i) * s->kernel + j) * s->C + column % s->C];
                elem_t *tile = tiles + ((t * s->K / 32 + k / 32) * s->C + column / NR) * B_TILE;
                store_floats(tile + k % 32 / VNNI * LANES + column % NR * VNNI + k % VNNI, 1, _mm512_set1_ps(w));
            }
        }
}

size_t packed_bytes(const Shape *s) {
    const int64_t whole = s->kernel * s->kernel * blocks_of_32(s->C) * s->K, blocks = 16 * s->K * s->C / 2;
    return (size_t)((whole > blocks ? whole : blocks) * 32) * sizeof(elem_t);
}

int64_t pack_units(const Shape *s, int which) { /* of 32 channels in of a tap */
    if (which == DGRAD_PIXELS) return 1;
    return which == FPROP ? fprop_taps(s) * blocks_of_32(fprop_depth(s)) : s->kernel * s->kernel * s->K / 32;
}

void pack_weights(const Shape *s, int which, const float *weight, int64_t unit, elem_t *tiles) {
    if (which == FPROP) pack_fprop(s, weight, unit, tiles);
    else if (which == DGRAD) pack_dgrad(s, weight, unit, tiles);
    else pack_dgrad_pixels(s, weight, tiles);
}
