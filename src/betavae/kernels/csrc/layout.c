/* See layout.h. Images are (height, width, channels). */

#include "layout.h"

/* gradient where out > 0, else 0. */
static __m512i relu_backward(__m512i out, __m512i gradient) {
#ifdef FP32
    return _mm512_castps_si512(relu_backward_ps(_mm512_castsi512_ps(out), _mm512_castsi512_ps(gradient)));
#else
    return _mm512_maskz_mov_epi16(_mm512_cmpgt_epi16_mask(out, _mm512_setzero_si512()), gradient);
#endif
}

/* Copies an image into the middle of a padded one, whose border stays as it is. If `relu_out` is given, the image is a
gradient that goes backward through the ReLU with this output. If `channel_sums` is given, adds the sum of each channel:
the gradient of a bias. */
void copy_padded(const elem_t *image, const elem_t *relu_out, int64_t height, int64_t width, int64_t channels, int64_t border,
                 int64_t padded_width, elem_t *padded, float *channel_sums) {
    for (int64_t c = 0; c < channels; c += LANES) {
        __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps(); /* channels of even and odd index, for bf16 */
        for (int64_t y = 0; y < height; y++) {
            const int64_t from = y * width * channels + c;
            elem_t *to = padded + ((y + border) * padded_width + border) * channels + c;
            for (int64_t x = 0; x < width; x++, to += channels) {
                __m512i values = _mm512_loadu_si512(image + from + x * channels);
                if (relu_out) values = relu_backward(_mm512_loadu_si512(relu_out + from + x * channels), values);
                _mm512_storeu_si512(to, values);
                if (channel_sums) {
                    even = _mm512_add_ps(even, _mm512_castsi512_ps(VNNI == 1 ? values : _mm512_slli_epi32(values, 16)));
                    odd = _mm512_add_ps(odd, _mm512_castsi512_ps(_mm512_and_si512(values, _mm512_set1_epi32(~0xffff))));
                }
            }
        }
        if (channel_sums) {
            float sums[2][16];
            _mm512_storeu_ps(sums[0], even);
            _mm512_storeu_ps(sums[1], odd);
            for (int i = 0; i < LANES; i++) channel_sums[c + i] += sums[i % VNNI][i / VNNI];
        }
    }
}

/* The same for pixels, floats, whose channels count as columns; rows of the padded image are `line` elements. */
static void copy_padded_pixels(const float *image, int64_t height, int64_t columns, int64_t border_rows, int64_t border,
                               int64_t line, elem_t *padded) {
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < columns; x += 16) {
            const __mmask16 valid = first_of_16(columns - x);
            store_floats(padded + (y + border_rows) * line + border + x, valid, _mm512_maskz_loadu_ps(valid, image + y * columns + x));
        }
}

/* Adds the sum of each channel of pixels, of which there are a multiple of 16. */
static void sum_pixels(const float *image, int64_t size, int64_t channels, float *channel_sums) {
    __m512 totals[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int64_t i = 0; i < size; i += 16 * channels)
        for (int64_t c = 0; c < channels; c++) totals[c] = _mm512_add_ps(totals[c], _mm512_loadu_ps(image + i + 16 * c));
    float values[64];
    for (int64_t c = 0; c < channels; c++) _mm512_storeu_ps(values + 16 * c, totals[c]);
    for (int64_t i = 0; i < 16 * channels; i++) channel_sums[i % channels] += values[i];
}

void copy_padded_x(const Shape *s, const void *x, const elem_t *relu_out, elem_t *padded, float *channel_sums) {
    const int64_t line = padded_x(s).line;
    if (s->few_channels) {
        copy_padded_pixels(x, s->H, s->W * s->C, s->padding, s->padding * s->C, line, padded);
        if (channel_sums) sum_pixels(x, x_size(s), s->C, channel_sums);
    } else {
        copy_padded(x, relu_out, s->H, s->W, s->C, s->padding, line / s->C, padded, channel_sums);
    }
}

/* B (height * width, channels) of wgrad: rows of an image are `line` elements apart, pixels in a row `step`. */
void pack_vnni(const elem_t *image, int64_t height, int64_t width, int64_t channels, int64_t line, int64_t step, elem_t *b) {
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x += VNNI)
            for (int64_t c = 0; c < channels; c += 32, b += 2 * LANES)
                pack_vnni_32(image + y * line + x * step + c, step, b, b + LANES);
}

static void copy_even(const elem_t *from, elem_t *to) { /* 16 of 32 elements */
#ifdef FP32
    _mm512_storeu_ps(to, load_even_ps(from));
#else
    _mm256_storeu_si256((__m256i *)to, _mm512_cvtepi32_epi16(_mm512_loadu_si512(from)));
#endif
}

/* A (kernel * kernel * C, P * Q) of wgrad on pixels: what each weight of the kernel sees. */
void im2col_pixels(const Shape *s, const elem_t *padded, int64_t line, elem_t *a) {
    const int64_t step = s->stride * s->C;
    for (int64_t i = 0; i < s->kernel; i++)
        for (int64_t j = 0; j < s->kernel * s->C; j++)
            for (int64_t p = 0; p < s->P; p++) {
                const elem_t *from = padded + (p * s->stride + i) * line + j;
                if (step != 2)
                    for (int64_t q = 0; q < s->Q; q++) *a++ = from[q * step];
                else
                    for (int64_t q = 0; q < s->Q; q += 16, a += 16) copy_even(from + 2 * q, a);
            }
}

/* (height * width, channels) -> (channels, depth), depth >= height * width; columns past the pixels are 0. Rows of the
image are `line` elements apart. */
void transpose_image(const elem_t *image, int64_t height, int64_t width, int64_t line, int64_t channels, int64_t depth,
                     elem_t *transposed) {
    const int64_t pixels = height * width;
    for (int64_t c = 0; c < channels; c += LANES)
        for (int64_t p = 0; p < depth; p += LANES) {
            __m512i rows[LANES];
            for (int64_t i = 0; i < LANES; i++) {
                const int64_t pixel = p + i;
                rows[i] = pixel < pixels ? _mm512_loadu_si512(image + pixel / width * line + pixel % width * channels + c)
                                         : _mm512_setzero_si512();
            }
            TRANSPOSE_ELEMENTS(rows)
            for (int64_t i = 0; i < LANES; i++) _mm512_storeu_si512(transposed + (c + i) * depth + p, rows[i]);
        }
}

/* (size / (rows * columns), rows, columns) -> (size / (rows * columns), columns, rows). */
void transpose_tables(const elem_t *from, int64_t rows, int64_t columns, int64_t size, elem_t *to) {
    for (const elem_t *end = from + size; from < end; from += rows * columns, to += rows * columns)
        for (int64_t r = 0; r < rows; r += LANES)
            for (int64_t c = 0; c < columns; c += LANES) {
                const int64_t high = rows - r, wide = columns - c;
                __m512i table[LANES];
                for (int64_t i = 0; i < LANES; i++)
                    table[i] = i < high ? load_n(from + (r + i) * columns + c, wide) : _mm512_setzero_si512();
                TRANSPOSE_ELEMENTS(table)
                for (int64_t i = 0; i < LANES; i++)
                    if (i < wide) store_n(to + (c + i) * rows + r, high, table[i]);
            }
}
