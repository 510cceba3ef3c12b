/* Convolutions of small images, values of one type in and out, sums in fp32. The interface is convolution.py.

A convolution links a big image, (big_height, big_width, big) values, to a small one, (height, width, small):

    down:  small[y, x] = sum over taps (i, j) of  W[i, j] big[stride y + i - padding, stride x + j - padding]
    up:    the transposed map, from small to big; it is what carries the gradient of down back
    turn:  the gradient of W, sum over images and pixels of small[y, x] times big[stride y + i - padding, ...]

A forward pass is one of the first two, a backward pass the other one and the third. Images are NHWC and small enough
for a core's L2 cache, so each is taken through all that has to happen to it before the next one. Channels come in
multiples of 32, as wide as a tile, but for those of big images of pixels ("thin"): there a kernel's row, which sees
values that lie side by side, is a tap. A linear layer is a convolution of 1 x 1 whose images are 32 rows each; one that
takes or gives few numbers has these, and its products, in fp32. A stage
ends where all images have to come before one can go on: where convolutions end and linear layers begin, or the other way
round, and behind a residual layer, for what it adds to its inputs is normalised by moments of the whole batch. */

#include <math.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tiles.h"

typedef struct {
    int64_t big_height, big_width, big, height, width, small, kernel, stride, padding, thin;
} Shape; /* big, small: channels; thin: the big image has few, and its values are float */

typedef struct {
    Shape shape;
    int64_t up, relu; /* whether it goes from small to big; not through ReLU where the result is floats */
    int64_t few; /* 0, or that it is linear and takes few numbers (the first layer) or gives few (the last): these are floats */
    int64_t images;
    int64_t rows, columns; /* at a stage's start: its inputs are the results before, each (rows, columns) of them transposed */
    void *in, *out;
    const float *weight, *bias;
    float *weight_gradient, *bias_gradient;
    value *sum; /* of a residual layer: inputs + scale (results - mean) / sqrt(variance + epsilon) + shift, channel by channel */
    const float *scale, *shift;
    float *mean, *variance, *scale_gradient, *shift_gradient;
    int64_t batch; /* whether mean and variance are those of the batch, and to be written; otherwise they are given */
    double epsilon;
} Layer;

const int64_t abi_version = 1, size_of_Shape = sizeof(Shape), size_of_Layer = sizeof(Layer);

enum { MAX_LAYERS = 16 };
enum { TAKES_FEW = 1, GIVES_FEW = 2 };
enum { MOST_FEW = 64 }; /* of these numbers */
enum { GROUP = 4 }; /* images that a thread takes through all layers backwards, one layer after another */
enum { MOST_ROWS = 32 * GROUP }; /* of images that are rows */

const char *hardware(void) { /* that multiplies; none where it may not be used */
#ifdef __AMX_BF16__
    return syscall(SYS_arch_prctl, 0x1023, 18) ? NULL : "AMX"; /* Linux grants tiles when asked: ARCH_REQ_XCOMP_PERM, XTILEDATA */
#else
#ifdef __AVX512F__
    return "AVX-512";
#else
    return "AVX2";
#endif
#endif
}

/* ---- weights into right tiles: [tap][block of 32 channels in][block of 16 out] -------------------------------------

Weights are fp32, (small, kernel, kernel, big channels) in memory. */

enum { DOWN, UP, SQUARES }; /* SQUARES: up to a thin image */

static int64_t taps_down(const Shape *s) { return s->thin ? s->kernel : s->kernel * s->kernel; }
static int64_t depth_down(const Shape *s) { return s->thin ? (s->kernel * s->big + 1) / 2 * 2 : s->big; } /* values a tap */
static int64_t blocks_of(int64_t channels) { return (channels + 31) / 32; }

static int64_t units_of(const Shape *s, int way) { /* pieces of 32 values of a tap that are packed one by one */
    return way == SQUARES ? 1 : way == DOWN ? taps_down(s) * blocks_of(depth_down(s)) : s->kernel * s->kernel * s->small / 32;
}

/* From big channels, or a row of a thin kernel, to small ones. */
static void pack_down(const Shape *s, const float *weight, int64_t unit, value *tiles) {
    const int64_t taps = taps_down(s), seen = s->thin ? s->kernel * s->big : s->big;
    const int64_t t = unit / blocks_of(seen), k = unit % blocks_of(seen) * 32, left = seen - k;
    const __mmask32 valid = left < 32 ? (__mmask32)((1u << left) - 1) : ~(__mmask32)0;
    tiles += unit * s->small * 32;
    for (int64_t n = 0; n < s->small; n += 16)
        for (int64_t half = 0; half < 32; half += LANES, tiles += 16 * LANES) {
            __m512i rows[16];
            for (int64_t i = 0; i < 16; i++)
                rows[i] = values_of(weight + ((n + i) * taps + t) * seen + k + half, valid >> half);
            TRANSPOSE(rows, 16, uint32_t, _mm512_permutex2var_epi32)
            for (int i = 0; i < 16; i++) _mm512_storeu_si512(tiles + LANES * i, rows[i]);
        }
}

/* From small channels to big ones. */
static void pack_up(const Shape *s, const float *weight, int64_t unit, value *tiles) {
    const int64_t row = s->kernel * s->kernel * s->big, t = unit / (s->small / 32), k = unit % (s->small / 32) * 32;
    tiles += unit * s->big * 32;
    for (int64_t n = 0; n < s->big; n += 16)
        for (int64_t i = 0; i < 32; i += PAIR, tiles += LANES)
            _mm512_storeu_si512(tiles, paired(weight + (k + i) * row + t * s->big + n, row));
}

/* From small channels to a thin image: 2 x 2 small pixels give a square of 4 x 4 big ones, with a column for each of its
values, and see 4 x 4 small ones. Row y of the square takes from row t of those seen what row y + padding + 2 - 2 t of the
kernel weighs. */
static void pack_squares(const Shape *s, const float *weight, value *tiles) {
    memset(tiles, 0, (size_t)(16 * s->small * 16 * s->big) * sizeof(value));
    for (int64_t t = 0; t < 16; t++)
        for (int64_t column = 0; column < 16 * s->big; column++) {
            const int64_t i = column / s->big / 4 + s->padding + 2 - t / 4 * 2, j = column / s->big % 4 + s->padding + 2 - t % 4 * 2;
            if (i < 0 || j < 0 || i >= s->kernel || j >= s->kernel) continue;
            for (int64_t k = 0; k < s->small; k++) {
                const float weighs = weight[((k * s->kernel + i) * s->kernel + j) * s->big + column % s->big];
                value *tile = tiles + ((t * s->small / 32 + k / 32) * s->big + column / 16) * 512;
                put(tile + k % 32 / PAIR * LANES + column % 16 * PAIR + k % PAIR, 1, _mm512_set1_ps(weighs));
            }
        }
}

static void pack(const Shape *s, int way, const float *weight, int64_t unit, value *tiles) {
    if (way == DOWN) pack_down(s, weight, unit, tiles);
    else if (way == UP) pack_up(s, weight, unit, tiles);
    else pack_squares(s, weight, tiles);
}

/* ---- images into the forms that tiles are loaded from -------------------------------------------------------------*/

static __m512i where_positive(__m512i shown, __m512i values) {
#ifdef FP32
    return _mm512_castps_si512(where_positive_ps(_mm512_castsi512_ps(shown), _mm512_castsi512_ps(values)));
#else
    return _mm512_maskz_mov_epi16(_mm512_cmpgt_epi16_mask(shown, _mm512_setzero_si512()), values);
#endif
}

/* An image (height, width, channels) into the middle of a larger one, whose border stays as it is. Where a mask is
given, values are kept where it is positive: the gradient of a ReLU. Adds the sum of each channel to `sums`. */
static void place(const value *image, const value *mask, int64_t height, int64_t width, int64_t channels, int64_t border,
                  int64_t padded_width, value *padded, float *sums) {
    for (int64_t c = 0; c < channels; c += LANES) {
        __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
        for (int64_t y = 0; y < height; y++) {
            const int64_t from = y * width * channels + c;
            value *to = padded + ((y + border) * padded_width + border) * channels + c;
            for (int64_t x = 0; x < width; x++, to += channels) {
                __m512i values = _mm512_loadu_si512(image + from + x * channels);
                if (mask) values = where_positive(_mm512_loadu_si512(mask + from + x * channels), values);
                _mm512_storeu_si512(to, values);
                if (sums) {
                    even = _mm512_add_ps(even, _mm512_castsi512_ps(PAIR == 1 ? values : _mm512_slli_epi32(values, 16)));
                    odd = _mm512_add_ps(odd, _mm512_castsi512_ps(_mm512_and_si512(values, _mm512_set1_epi32(~0xffff))));
                }
            }
        }
        if (sums) {
            float pairs[2][16];
            _mm512_storeu_ps(pairs[0], even);
            _mm512_storeu_ps(pairs[1], odd);
            for (int i = 0; i < LANES; i++) sums[c + i] += pairs[i % PAIR][i / PAIR];
        }
    }
}

/* The same for the floats of a thin image; `width` counts values, of which `border` precede each row. */
static void place_thin(const float *image, int64_t height, int64_t width, int64_t above, int64_t border, int64_t line,
                       value *padded) {
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x += 16) {
            const __mmask16 left = first_of_16(width - x);
            put(padded + (y + above) * line + border + x, left, _mm512_maskz_loadu_ps(left, image + y * width + x));
        }
}

/* Adds to the sums of a thin image's channels its floats, of which there are a multiple of 16 for each. */
static void sum_thin(const float *image, int64_t size, int64_t channels, float *sums) {
    __m512 totals[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int64_t i = 0; i < size; i += 16 * channels)
        for (int64_t c = 0; c < channels; c++) totals[c] = _mm512_add_ps(totals[c], _mm512_loadu_ps(image + i + 16 * c));
    float values[64];
    for (int64_t c = 0; c < channels; c++) _mm512_storeu_ps(values + 16 * c, totals[c]);
    for (int64_t i = 0; i < 16 * channels; i++) sums[i % channels] += values[i];
}

/* Right tiles for `turn`: pixels of an image, two neighbours in a row interleaved by channel. Rows, and pixels in a
row, of the `height` by `width` that are wanted lie `line` and `step` values apart. */
static void pair(const value *image, int64_t height, int64_t width, int64_t channels, int64_t line, int64_t step,
                 value *pairs) {
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x += PAIR)
            for (int64_t c = 0; c < channels; c += 32, pairs += 2 * LANES)
                interleave(image + y * line + x * step + c, step, pairs, pairs + LANES);
}

static void every_other(const value *from, value *to) { /* of 32 */
#ifdef FP32
    _mm512_storeu_ps(to, every_other_ps(from));
#else
    _mm256_storeu_si256((__m256i *)to, _mm512_cvtepi32_epi16(_mm512_loadu_si512(from)));
#endif
}

/* Left tiles for `turn`: what each value of a thin kernel sees, (kernel, kernel, channels) rows of all small pixels. */
static void views(const Shape *s, const value *padded, int64_t line, value *rows) {
    const int64_t step = s->stride * s->big;
    for (int64_t i = 0; i < s->kernel; i++)
        for (int64_t j = 0; j < s->kernel * s->big; j++)
            for (int64_t y = 0; y < s->height; y++) {
                const value *from = padded + (y * s->stride + i) * line + j;
                if (step != 2)
                    for (int64_t x = 0; x < s->width; x++) *rows++ = from[x * step];
                else
                    for (int64_t x = 0; x < s->width; x += 16, rows += 16) every_other(from + 2 * x, rows);
            }
}

/* ---- sums ---------------------------------------------------------------------------------------------------------*/

typedef struct { int64_t offset, weights; } Tap; /* where its first pixel is; which weights it takes */

typedef struct { /* where results go: values, a pixel and a row apart; or the squares of a thin image */
    value *values;
    float *image;
    int64_t line, pixel, thin;
    const float *bias;
    int64_t relu;
} Sink;

static void store(const float *sums, int64_t count, const Sink *to, int64_t offset, int64_t c) {
    const __m512 zero = _mm512_setzero_ps(), bias = to->bias ? _mm512_loadu_ps(to->bias + c) : zero;
    for (int64_t i = 0; i < count; i++, sums += 16, offset += to->pixel) {
        __m512 values = _mm512_add_ps(_mm512_load_ps(sums), bias);
        if (to->relu) values = _mm512_max_ps(zero, values); /* NaN stays NaN */
        put(to->values + offset + c, 0xffff, values);
    }
}

static void store_squares(const float *sums, int64_t count, const Sink *to, int64_t offset, int64_t c) {
    for (int64_t quarter = 0; quarter < 4; quarter++) {
        const int64_t four = c / 4 + quarter; /* values of a square, of which `thin` fours are a row */
        const __m128 bias = _mm_loadu_ps(to->bias + 4 * four);
        float *image = to->image + offset + four / to->thin * to->line / 4 + four % to->thin * 4;
        for (int64_t i = 0; i < count; i++, image += to->pixel)
            _mm_storeu_ps(image, _mm_add_ps(_mm_load_ps(sums + 16 * i + 4 * quarter), bias));
    }
}

#ifndef __AMX_BF16__
/* What all taps give 16 pixels and channels. */
INLINE void sum_taps(int width, const value *in, int64_t apart, int64_t down, int64_t depth, const Tap *taps,
                     int64_t num_taps, const value *weights, int64_t blocks, float *to) {
    __m512 sums[16];
    load_sums(sums, NULL, 0);
    for (int64_t t = 0; t < num_taps; t++) {
        const value *right = weights + taps[t].weights * blocks_of(depth) * blocks * 512;
        for (int64_t k = 0; k < depth; k += 32, right += blocks * 512)
            add_product(sums, width, in + taps[t].offset + k, apart, down, depth < 32 ? depth : 32, right, 64);
    }
    store_sums(sums, to, 16);
}
#endif

/* out[y, x] = sum over taps of W[tap] in[offset of the tap + (y line + x pitch) step], where a tap sees `depth` values.
Weights: [tap][block of 32 values][block of 16 channels out] right tiles. Four rows of up to 16 pixels times 16 channels
at a time, so that the pixels that all taps share stay in the L1 cache while weights stream through it. */
static void gather(const value *in, int64_t line, int64_t pitch, int64_t step, int64_t depth, const Tap *taps,
                   int64_t num_taps, const value *weights, int64_t height, int64_t width, int64_t channels, const Sink *to) {
    const int64_t blocks = channels / 16, count = width < 16 ? width : 16, down = step * line;
    const int64_t apart = step * pitch * (int64_t)sizeof(value);
    float sums[4 * 16][16] __attribute__((aligned(64)));
    for (int64_t y = 0; y < height; y += 4)
        for (int64_t x = 0; x < width; x += 16)
            for (int64_t c = 0; c < blocks; c++) {
                const value *start = in + y * down + x * step * pitch;
#ifdef __AMX_BF16__
                _tile_zero(0);
                _tile_zero(1);
                _tile_zero(2);
                _tile_zero(3);
                for (int64_t t = 0; t < num_taps; t++) {
                    const value *right = weights + (taps[t].weights * blocks_of(depth) * blocks + c) * 512;
                    for (int64_t k = 0; k < depth; k += 32, right += blocks * 512) {
                        const value *left = start + taps[t].offset + k;
                        _tile_loadd(6, right, 64);
                        _tile_loadd(4, left, apart);
                        _tile_dpbf16ps(0, 4, 6);
                        _tile_loadd(5, left + down, apart);
                        _tile_dpbf16ps(1, 5, 6);
                        _tile_loadd(4, left + 2 * down, apart);
                        _tile_dpbf16ps(2, 4, 6);
                        _tile_loadd(5, left + 3 * down, apart);
                        _tile_dpbf16ps(3, 5, 6);
                    }
                }
                _tile_stored(0, sums[0 * count], 64);
                _tile_stored(1, sums[1 * count], 64);
                _tile_stored(2, sums[2 * count], 64);
                _tile_stored(3, sums[3 * count], 64);
#else
                const value *right = weights + c * 512;
                const int64_t fall = down * (int64_t)sizeof(value);
                if (width == 4) sum_taps(4, start, apart, fall, depth, taps, num_taps, right, blocks, sums[0]);
                for (int i = 0; i < 4 && width == 8; i += 2)
                    sum_taps(8, start + i * down, apart, fall, depth, taps, num_taps, right, blocks, sums[i * 8]);
                for (int i = 0; i < 4 && width >= 16; i++)
                    sum_taps(16, start + i * down, apart, 0, depth, taps, num_taps, right, blocks, sums[i * 16]);
#endif
                for (int i = 0; i < 4; i++) {
                    const int64_t offset = (y + i) * to->line + x * to->pixel;
                    if (to->image) store_squares(sums[i * count], count, to, offset, c * 16);
                    else store(sums[i * count], count, to, offset, c * 16);
                }
            }
}

/* Adds to 16 or 32 rows of `sums`, 32 wide and `apart` bytes apart, what rows of left tiles times pairs of right ones
give, summed over the pixels of a group of images; puts it there where the sums are fresh, with nothing in them. */
static void multiply(float *sums, int64_t apart, int64_t fresh, int64_t both, int64_t group, const value *left, int64_t depth,
                     int64_t left_size, const value *right, int64_t channels, int64_t right_size, int64_t pixels) {
#ifdef __AMX_BF16__
    float *lower = sums + 4 * apart;
    if (fresh) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_loadd(0, sums, apart);
        _tile_loadd(2, sums + 16, apart);
        if (both) {
            _tile_loadd(1, lower, apart);
            _tile_loadd(3, lower + 16, apart);
        }
    }
    for (int64_t n = 0; n < group; n++)
        for (int64_t p = 0; p < pixels; p += 32) {
            const value *rows = left + n * left_size + p, *pairs = right + n * right_size + p * channels;
            _tile_loadd(4, rows, depth * 2);
            _tile_loadd(6, pairs, channels * 4);
            _tile_loadd(7, pairs + 32, channels * 4);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(2, 4, 7);
            if (!both) continue;
            _tile_loadd(5, rows + 16 * depth, depth * 2);
            _tile_dpbf16ps(1, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    _tile_stored(0, sums, apart);
    _tile_stored(2, sums + 16, apart);
    if (both) {
        _tile_stored(1, lower, apart);
        _tile_stored(3, lower + 16, apart);
    }
#else
    for (int quarter = 0; quarter < 4; quarter++) { /* rows below, columns beside */
        const int64_t below = quarter / 2 * 16, beside = quarter % 2 * 16;
        if (below && !both) break;
        float *here = sums + below * apart / 4 + beside;
        __m512 sum[16];
        load_sums(sum, fresh ? NULL : here, apart / 4);
        for (int64_t n = 0; n < group; n++)
            for (int64_t p = 0; p < pixels; p += 32)
                add_product(sum, 16, left + n * left_size + below * depth + p, depth * (int64_t)sizeof(value), 0,
                            pixels < 32 ? pixels : 32, right + n * right_size + p * channels + PAIR * beside, channels * 4);
        store_sums(sum, here, apart / 4);
    }
#endif
}

/* ---- layers --------------------------------------------------------------------------------------------------------*/

typedef struct { int64_t height, line, size; } Padded; /* of a big image: rows; values a row and in all */

static Padded pad_big(const Shape *s) {
    const int64_t rows = (s->height - 1) * s->stride + s->kernel, width = (s->width - 1) * s->stride + s->kernel;
    const int64_t high = s->big_height + s->padding, wide = s->big_width + s->padding;
    Padded p = {.height = high > rows ? high : rows, .line = (wide > width ? wide : width) * s->big};
    p.size = (p.height * p.line + 64 + 31) / 32 * 32; /* what is read past the end of a thin image meets weights of 0 */
    return p;
}

static void place_big(const Shape *s, const void *big, const value *mask, value *padded, float *sums) {
    const int64_t line = pad_big(s).line;
    if (s->thin) {
        place_thin(big, s->big_height, s->big_width * s->big, s->padding, s->padding * s->big, line, padded);
        if (sums) sum_thin(big, s->big_height * s->big_width * s->big, s->big, sums);
    } else {
        place(big, mask, s->big_height, s->big_width, s->big, s->padding, line / s->big, padded, sums);
    }
}

static void apply_down(const Shape *s, const value *padded, const value *tiles, const Sink *to) {
    const int64_t line = pad_big(s).line, along = s->thin ? 1 : s->kernel;
    Tap taps[16];
    for (int64_t t = 0; t < taps_down(s); t++) taps[t] = (Tap){t / along * line + t % along * s->big, t};
    gather(padded, line, s->big, s->stride, depth_down(s), taps, taps_down(s), tiles, s->height, s->width, s->small, to);
}

/* Big pixels of each phase (y, x modulo stride) are a convolution of the small image, here with a border of one. */
static void apply_up(const Shape *s, const value *in, const value *tiles, value *big, const float *bias, int64_t relu) {
    const int64_t line = (s->width + 2) * s->small, stride = s->stride;
    for (int64_t py = 0; py < stride; py++)
        for (int64_t px = 0; px < stride; px++) {
            Tap taps[16];
            int64_t count = 0;
            for (int64_t i = (py + s->padding) % stride; i < s->kernel; i += stride)
                for (int64_t j = (px + s->padding) % stride; j < s->kernel; j += stride)
                    taps[count++] = (Tap){(1 + (py + s->padding - i) / stride) * line +
                                              (1 + (px + s->padding - j) / stride) * s->small,
                                          i * s->kernel + j};
            Sink to = {.values = big + (py * s->big_width + px) * s->big, .line = stride * s->big_width * s->big,
                       .pixel = stride * s->big, .bias = bias, .relu = relu};
            gather(in, line, s->small, 1, s->small, taps, count, tiles, s->height, s->width, s->big, &to);
        }
}

/* The thin result of stride 2: its squares are the channels of a convolution of 4 x 4 and stride 2. */
static void apply_squares(const Shape *s, const value *in, const value *tiles, float *image, const float *bias) {
    const int64_t line = (s->width + 2) * s->small;
    Tap taps[16];
    for (int64_t t = 0; t < 16; t++) taps[t] = (Tap){t / 4 * line + t % 4 * s->small, t};
    Sink to = {.image = image, .line = 4 * s->big_width * s->big, .pixel = 4 * s->big, .thin = s->big, .bias = bias};
    gather(in, line, s->small, 2, s->small, taps, 16, tiles, s->height / 2, s->width / 2, 16 * s->big, &to);
}

static int64_t depth_of(const Shape *s) { return s->height * s->width < 32 ? 32 : s->height * s->width; } /* pixels of a left tile */

/* Adds to `gradient` (small, kernel, kernel, big) what a group of padded big images and transposed small ones gives. */
static void turn(const Shape *s, int64_t group, const value *padded, const value *turned, value *pairs, int64_t fresh,
                 float *gradient) {
    const Padded form = pad_big(s);
    const int64_t pixels = s->height * s->width, depth = depth_of(s), taps = s->kernel * s->kernel;
    for (int64_t j = 0; j < s->kernel; j++)
        for (int64_t phase = 0; phase < s->stride && phase < s->kernel; phase++) { /* rows that taps share */
            const int64_t rows = s->height + (s->kernel - 1 - phase) / s->stride, size = rows * s->width * s->big;
            for (int64_t n = 0; n < group; n++)
                pair(padded + n * form.size + phase * form.line + j * s->big, rows, s->width, s->big,
                     s->stride * form.line, s->stride * s->big, pairs + n * size);
            for (int64_t c = 0; c < s->small; c += 32)
                for (int64_t b = 0; b < s->big; b += 32)
                    for (int64_t i = phase; i < s->kernel; i += s->stride)
                        multiply(gradient + (c * taps + i * s->kernel + j) * s->big + b, taps * s->big * 4, fresh, 1, group,
                                 turned + c * depth, depth, depth * s->small,
                                 pairs + (i / s->stride) * s->width * s->big + PAIR * b, s->big, size, pixels);
        }
}

/* ---- a layer, for one image or a group ------------------------------------------------------------------------- */

static int64_t in_size(const Layer *l) {
    return l->up ? l->shape.height * l->shape.width * l->shape.small : l->shape.big_height * l->shape.big_width * l->shape.big;
}

static int64_t out_size(const Layer *l) {
    return l->up ? l->shape.big_height * l->shape.big_width * l->shape.big : l->shape.height * l->shape.width * l->shape.small;
}

static void *input_at(const Layer *l, const void *inputs, int64_t n) { /* values of a thin image are floats */
    const int floats = (l->shape.thin && !l->up) || l->few == TAKES_FEW;
    return (char *)inputs + n * in_size(l) * (int64_t)(floats ? sizeof(float) : sizeof(value));
}

static int64_t bytes_out(const Layer *l) {
    const int floats = (l->shape.thin && l->up) || l->few == GIVES_FEW;
    return out_size(l) * (int64_t)(floats ? sizeof(float) : sizeof(value));
}

static void *result_at(const Layer *l, const void *results, int64_t n) { return (char *)results + n * bytes_out(l); }

static int64_t bordered_size(const Shape *s) { return (s->height + 2) * (s->width + 2) * s->small; }

static size_t tile_bytes(const Shape *s) { /* of weights either way */
    const int64_t whole = s->kernel * s->kernel * blocks_of(s->big) * s->small, squares = 16 * s->small * s->big / 2;
    return (size_t)((whole > squares ? whole : squares) * 32) * sizeof(value);
}

static int64_t views_of(const Shape *s) { /* values of a thin kernel, in tiles of 16 rows */
    return (s->kernel * s->kernel * s->big + 15) / 16 * 16;
}

static int64_t sums_size(const Shape *s) {
    return s->thin ? views_of(s) * s->small : s->small * s->kernel * s->kernel * s->big;
}

static int64_t biases_of(const Layer *l) { return l->up ? l->shape.big : l->shape.small; }

/* ---- linear layers that take or give few numbers, in fp32 ---------------------------------------------------------

`spread` and `condense` take the rows of an image, the two others those of a group of images. Weights are (numbers given,
numbers taken), as in memory. */

static void spread(const Layer *l, const float *in, value *out) {
    const int64_t few = l->shape.big, many = l->shape.small, rows = l->shape.height * l->shape.width;
    static const int32_t first_16[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const __m512i along = _mm512_mullo_epi32(_mm512_set1_epi32((int)few), _mm512_loadu_si512(first_16));
    for (int64_t c = 0; c < many; c += 16) {
        __m512 weights[MOST_FEW];
        for (int64_t i = 0; i < few; i++) weights[i] = _mm512_i32gather_ps(along, l->weight + c * few + i, 4);
        for (int64_t r = 0; r < rows; r++) {
            __m512 sum = _mm512_loadu_ps(l->bias + c);
            for (int64_t i = 0; i < few; i++) sum = _mm512_fmadd_ps(_mm512_set1_ps(in[r * few + i]), weights[i], sum);
            if (l->relu) sum = _mm512_max_ps(_mm512_setzero_ps(), sum); /* NaN stays NaN */
            put(out + r * many + c, 0xffff, sum);
        }
    }
}

static void condense(const Layer *l, const value *in, float *out) {
    const int64_t few = l->shape.small, many = l->shape.big, rows = l->shape.height * l->shape.width;
    for (int64_t r = 0; r < rows; r += 4)
        for (int64_t i = 0; i < few; i++) {
            __m512 sums[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
            for (int64_t c = 0; c < many; c += 16) {
                const __m512 weights = _mm512_loadu_ps(l->weight + i * many + c);
                for (int k = 0; k < 4; k++) sums[k] = _mm512_fmadd_ps(floats_of(in + (r + k) * many + c), weights, sums[k]);
            }
            for (int k = 0; k < 4; k++) out[(r + k) * few + i] = _mm512_reduce_add_ps(sums[k]) + l->bias[i];
        }
}

static void spread_back(const Layer *l, int64_t rows, const float *in, const value *out, const value *gradient, float *towards,
                        float *sums, float *bias_sums) {
    const int64_t few = l->shape.big, many = l->shape.small;
    for (int64_t i = 0; i < few; i += 16) {
        const __mmask16 there = first_of_16(few - i);
        __m512 taken[MOST_ROWS], back[MOST_ROWS], given[MOST_ROWS];
        for (int64_t r = 0; r < rows; r++) {
            taken[r] = _mm512_maskz_loadu_ps(there, in + r * few + i);
            back[r] = _mm512_setzero_ps();
        }
        for (int64_t c = 0; c < many; c += 16) {
            __m512 total = _mm512_loadu_ps(bias_sums + c);
            for (int64_t r = 0; r < rows; r++) {
                given[r] = floats_of(gradient + r * many + c);
                if (l->relu) given[r] = where_positive_ps(floats_of(out + r * many + c), given[r]);
                total = _mm512_add_ps(total, given[r]);
            }
            if (!i) _mm512_storeu_ps(bias_sums + c, total);
            for (int64_t k = 0; k < 16; k++) {
                const __m512 weights = _mm512_maskz_loadu_ps(there, l->weight + (c + k) * few + i);
                __m512 sum = _mm512_maskz_loadu_ps(there, sums + (c + k) * few + i), other = _mm512_setzero_ps();
                for (int64_t r = 0; r < rows; r += 2) {
                    const __m512 here = _mm512_set1_ps(((float *)(given + r))[k]), next = _mm512_set1_ps(((float *)(given + r + 1))[k]);
                    sum = _mm512_fmadd_ps(here, taken[r], sum);
                    other = _mm512_fmadd_ps(next, taken[r + 1], other);
                    back[r] = _mm512_fmadd_ps(here, weights, back[r]);
                    back[r + 1] = _mm512_fmadd_ps(next, weights, back[r + 1]);
                }
                _mm512_mask_storeu_ps(sums + (c + k) * few + i, there, _mm512_add_ps(sum, other));
            }
        }
        for (int64_t r = 0; towards && r < rows; r++) _mm512_mask_storeu_ps(towards + r * few + i, there, back[r]);
    }
}

static void condense_back(const Layer *l, int64_t rows, const value *in, const float *gradient, value *towards, float *sums,
                          float *bias_sums) {
    const int64_t few = l->shape.small, many = l->shape.big;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < few; i++) bias_sums[i] += gradient[r * few + i];
    for (int64_t c = 0; c < many; c += 16) {
        __m512 taken[MOST_ROWS];
        for (int64_t r = 0; r < rows; r++) taken[r] = floats_of(in + r * many + c);
        for (int64_t i = 0; i < few; i++) {
            __m512 sum = _mm512_loadu_ps(sums + i * many + c), other = _mm512_setzero_ps();
            for (int64_t r = 0; r < rows; r += 2) {
                sum = _mm512_fmadd_ps(_mm512_set1_ps(gradient[r * few + i]), taken[r], sum);
                other = _mm512_fmadd_ps(_mm512_set1_ps(gradient[(r + 1) * few + i]), taken[r + 1], other);
            }
            _mm512_storeu_ps(sums + i * many + c, _mm512_add_ps(sum, other));
        }
        for (int64_t r = 0; towards && r < rows; r++) {
            __m512 back = _mm512_setzero_ps();
            for (int64_t i = 0; i < few; i++)
                back = _mm512_fmadd_ps(_mm512_set1_ps(gradient[r * few + i]), _mm512_loadu_ps(l->weight + i * many + c), back);
            put(towards + r * many + c, 0xffff, back);
        }
    }
}

static void configure_for(int64_t width, int64_t depth) {
    configure(width < 16 ? width : 16, depth < 32 ? depth : 32);
}

/* `padded` has borders of zeros. */
static void forward_image(const Layer *l, int64_t n, const value *tiles, value *padded) {
    const Shape *s = &l->shape;
    if (l->few) {
        if (l->few == TAKES_FEW) spread(l, input_at(l, l->in, n), result_at(l, l->out, n));
        else condense(l, input_at(l, l->in, n), result_at(l, l->out, n));
    } else if (!l->up) {
        Sink to = {.values = result_at(l, l->out, n), .line = s->width * s->small, .pixel = s->small, .bias = l->bias, .relu = l->relu};
        configure_for(s->width, depth_down(s));
        place_big(s, input_at(l, l->in, n), NULL, padded, NULL);
        apply_down(s, padded, tiles, &to);
    } else {
        place(input_at(l, l->in, n), NULL, s->height, s->width, s->small, 1, s->width + 2, padded, NULL);
        if (s->thin) {
            float columns[64];
            for (int64_t i = 0; i < 16 * s->big; i++) columns[i] = l->bias[i % s->big];
            configure_for(s->width / 2, 32);
            apply_squares(s, padded, tiles, result_at(l, l->out, n), columns);
        } else {
            configure_for(s->width, 32);
            apply_up(s, padded, tiles, result_at(l, l->out, n), l->bias, l->relu);
        }
    }
}

/* Images `first` to `first + count` of a layer: the gradient of its results to that of its inputs, where asked for, and
added to sums of weights, fresh or not, and of biases. `padded` and `bordered` have borders of zeros. */
static void backward_group(const Layer *l, int64_t first, int64_t count, const void *gradient, value *towards,
                           const value *tiles, int64_t fresh, float *sums, float *bias_sums, value *padded, value *bordered,
                           value *left, value *pairs) {
    const Shape *s = &l->shape;
    const int64_t pixels = s->height * s->width, depth = depth_of(s), padded_size = pad_big(s).size;
    if (l->few) {
        if (fresh) memset(sums, 0, (size_t)sums_size(s) * sizeof *sums);
        const void *in = input_at(l, l->in, first), *out = result_at(l, l->out, first);
        if (l->few == TAKES_FEW) spread_back(l, count * pixels, in, out, gradient, (float *)towards, sums, bias_sums);
        else condense_back(l, count * pixels, in, gradient, towards, sums, bias_sums);
        return;
    }
    for (int64_t n = 0; n < count; n++) {
        const value *mask = l->relu ? result_at(l, l->out, first + n) : NULL, *thick;
        const void *here = result_at(l, gradient, n);
        value *back = towards ? input_at(l, towards, n) : NULL;
        value *image = padded + (s->thin ? 0 : n * padded_size);
        int64_t line = s->width * s->small;
        if (!l->up) {
            place_big(s, input_at(l, l->in, first + n), NULL, image, NULL);
            place(here, mask, s->height, s->width, s->small, 1, s->width + 2, bordered,
                  bias_sums);
            if (back) {
                configure_for(s->width, 32);
                apply_up(s, bordered, tiles, back, NULL, 0);
            }
            line += 2 * s->small;
            thick = bordered + line + s->small;
        } else {
            place_big(s, here, mask, image, bias_sums);
            if (back) {
                Sink to = {.values = back, .line = line, .pixel = s->small};
                configure_for(s->width, depth_down(s));
                apply_down(s, image, tiles, &to);
            }
            thick = input_at(l, l->in, first + n);
        }
        if (!s->thin) {
            transpose(thick, s->height, s->width, line, s->small, depth, left + n * s->small * depth);
            continue;
        }
        views(s, image, pad_big(s).line, left);
        pair(thick, s->height, s->width, s->small, line, s->small, pairs);
        configure(16, 32);
        for (int64_t v = 0; v < views_of(s); v += 16)
            for (int64_t c = 0; c < s->small; c += 32)
                multiply(sums + v * s->small + c, s->small * 4, fresh && !n, 0, 1, left + v * depth, depth, 0, pairs + PAIR * c, s->small, 0,
                         pixels);
    }
    configure(16, pixels < 32 ? pixels : 32);
    if (!s->thin) turn(s, count, padded, left, pairs, fresh, sums);
}

/* ---- stages ---------------------------------------------------------------------------------------------------------*/

typedef struct { /* the weights of layers as tiles: those of layer i in pieces from starts[i] on, below starts[i + 1] */
    value *tiles[MAX_LAYERS];
    int ways[MAX_LAYERS];
    int64_t starts[MAX_LAYERS + 1];
} Packed;

static size_t packed_bytes(const Layer *layers, int64_t count) {
    size_t size = 0;
    for (int64_t i = 0; i < count; i++) size += layers[i].few ? 0 : lines(tile_bytes(&layers[i].shape));
    return size;
}

static int way_of(const Layer *l, int forwards) { return l->up != forwards ? DOWN : l->shape.thin ? SQUARES : UP; }

static Packed plan(const Layer *layers, int64_t count, int forwards, int64_t first, char *memory) {
    Packed p = {.starts = {0}};
    for (int64_t i = 0; i < count; i++) {
        const Shape *s = &layers[i].shape;
        p.tiles[i] = (value *)memory, memory += layers[i].few ? 0 : lines(tile_bytes(s));
        p.ways[i] = way_of(layers + i, forwards);
        p.starts[i + 1] = p.starts[i] + (i < first || layers[i].few ? 0 : units_of(s, p.ways[i]));
    }
    return p;
}

static void pack_piece(const Packed *p, const Layer *layers, int64_t piece) {
    int64_t i = 0;
    while (piece >= p->starts[i + 1]) i++;
    pack(&layers[i].shape, p->ways[i], layers[i].weight, piece - p->starts[i], p->tiles[i]);
}

typedef struct { /* a thread's own memory, in values from its start: what has borders of zeros, layer by layer, and the rest */
    int64_t padded[MAX_LAYERS], bordered[MAX_LAYERS], cleared, left, pairs, gradients[2], normal, results[MAX_LAYERS], errors, size;
} Room;

/* For images one by one forwards, or groups of them backwards; from layer `kept` on results are kept here, and the
gradient of their error. */
static Room room_of(const Layer *layers, int64_t count, int backwards, int64_t kept) {
    Room room = {.size = 0};
    const int64_t group = backwards ? GROUP : 1;
    int64_t left = 0, pairs = 0, between = 0, normal = 0;
    for (int64_t i = 0; i < count; i++) {
        const Layer *l = layers + i;
        const Shape *s = &l->shape;
        between = i && group * in_size(l) > between ? group * in_size(l) : between;
        if (l->few) continue;
        const int64_t lefts = group * (s->thin ? views_of(s) : s->small) * depth_of(s);
        const int64_t more = group * (s->height + s->kernel) * s->width * (s->thin ? s->small : s->big);
        room.padded[i] = room.size, room.size += backwards || !l->up ? group * pad_big(s).size : 0;
        room.bordered[i] = room.size, room.size += backwards || l->up ? (bordered_size(s) + 31) / 32 * 32 : 0;
        left = lefts > left ? lefts : left;
        pairs = more > pairs ? more : pairs;
        normal = l->sum && group * out_size(l) > normal ? group * out_size(l) : normal;
    }
    room.cleared = room.size;
    if (!backwards) return room;
    room.left = room.size, room.size += left;
    room.pairs = room.size, room.size += pairs;
    for (int i = 0; i < 2; i++) room.gradients[i] = room.size, room.size += between;
    room.normal = room.size, room.size += normal;
    for (int64_t i = kept; i < count; i++) room.results[i] = room.size, room.size += group * bytes_out(layers + i) / (int64_t)sizeof(value);
    room.errors = room.size;
    if (kept < count) room.size += group * bytes_out(layers + count - 1) / (int64_t)sizeof(value);
    return room;
}

static int64_t stage_end(const Layer *layers, int64_t count, int64_t first) {
    int64_t end = first + 1;
    while (end < count && !layers[end].rows && !layers[end - 1].sum) end++;
    return end;
}

static int64_t stage_start(const Layer *layers, int64_t end) {
    int64_t first = end - 1;
    while (first && !layers[first].rows && !layers[first - 1].sum) first--;
    return first;
}

static int64_t shares_of(const Layer *l, int64_t threads) { return l->images < threads ? l->images : threads; }

static void share(int64_t images, int64_t shares, int64_t i, int64_t *first, int64_t *last) {
    *first = images * i / shares, *last = images * (i + 1) / shares;
}

/* Tables (rows, columns), as many as make `size` values, transposed. */
static void flip(const value *from, int64_t rows, int64_t columns, int64_t size, value *to) {
    for (const value *end = from + size; from < end; from += rows * columns, to += rows * columns)
        for (int64_t r = 0; r < rows; r += LANES)
            for (int64_t c = 0; c < columns; c += LANES) {
                const int64_t high = rows - r, wide = columns - c;
                __m512i table[LANES];
                for (int64_t i = 0; i < LANES; i++)
                    table[i] = i < high ? load_first(from + (r + i) * columns + c, wide) : _mm512_setzero_si512();
                TRANSPOSE_VALUES(table)
                for (int64_t i = 0; i < LANES; i++)
                    if (i < wide) store_first(to + (c + i) * rows + r, high, table[i]);
            }
}

/* ---- residual layers -----------------------------------------------------------------------------------------------*/

typedef struct {
    double *moments; /* of each thread, channel by channel: two sums over pixels */
    float *by;       /* what the two images that are blended, and 1, are multiplied with, channel by channel */
} Norm;

static size_t norm_bytes(const Layer *l, int64_t threads) {
    return l->sum ? lines((size_t)(threads * l->shape.small * 16)) + lines((size_t)l->shape.small * 12) : 0;
}

/* Memory for all of them; returns its size, also where there is none yet. */
static size_t give_norms(const Layer *layers, int64_t count, int64_t threads, char *memory, Norm *norms) {
    size_t size = 0;
    for (int64_t i = 0; i < count; size += norm_bytes(layers + i++, threads))
        if (memory && layers[i].sum) {
            norms[i].moments = (double *)(memory + size);
            norms[i].by = (float *)(memory + size + lines((size_t)(threads * layers[i].shape.small * 16)));
        }
    return size;
}

static double *moments_of(const Layer *l, const Norm *norm, int64_t thread) { return norm->moments + thread * l->shape.small * 2; }

static void clear_moments(const Layer *l, const Norm *norm, int64_t thread) {
    memset(moments_of(l, norm, thread), 0, (size_t)l->shape.small * 16);
}

/* Adds the sums over an image's pixels of x, and of x times y. */
static void add_moments(const Layer *l, const Norm *norm, int64_t thread, const value *x, const value *y) {
    const int64_t channels = l->shape.small, size = out_size(l);
    double *sums = moments_of(l, norm, thread);
    for (int64_t c = 0; c < channels; c += 16) {
        __m512 first = _mm512_setzero_ps(), second = _mm512_setzero_ps();
        for (int64_t p = c; p < size; p += channels) {
            const __m512 here = floats_of(x + p);
            first = _mm512_add_ps(first, here);
            second = _mm512_fmadd_ps(here, floats_of(y + p), second);
        }
        float parts[2][16];
        _mm512_storeu_ps(parts[0], first);
        _mm512_storeu_ps(parts[1], second);
        for (int i = 0; i < 16; i++) sums[c + i] += parts[0][i], sums[channels + c + i] += parts[1][i];
    }
}

/* Two images, each channel times numbers of its own, and another number. */
static void blend(const Layer *l, const value *x, const value *y, const float *by, value *to) {
    const int64_t channels = l->shape.small, size = out_size(l);
    for (int64_t c = 0; c < channels; c += 16) {
        const __m512 a = _mm512_loadu_ps(by + c), b = _mm512_loadu_ps(by + channels + c), rest = _mm512_loadu_ps(by + 2 * channels + c);
        for (int64_t p = c; p < size; p += channels)
            put(to + p, 0xffff, _mm512_fmadd_ps(a, floats_of(x + p), _mm512_fmadd_ps(b, floats_of(y + p), rest)));
    }
}

static void add_to(value *image, const value *more, int64_t size) {
    for (int64_t i = 0; i < size; i += 16) put(image + i, 0xffff, _mm512_add_ps(floats_of(image + i), floats_of(more + i)));
}

static double total(const Layer *l, const Norm *norm, int64_t shares, int64_t i) {
    double sum = 0;
    for (int64_t thread = 0; thread < shares; thread++) sum += moments_of(l, norm, thread)[i];
    return sum;
}

/* What inputs and results, of which the moments are known, are multiplied with to be the sum. */
static void normalise(const Layer *l, const Norm *norm, int64_t shares) {
    const int64_t channels = l->shape.small;
    const double pixels = (double)(l->images * l->shape.height * l->shape.width);
    for (int64_t c = 0; c < channels; c++) {
        if (l->batch) {
            const double mean = total(l, norm, shares, c) / pixels, square = total(l, norm, shares, channels + c) / pixels;
            l->mean[c] = (float)mean;
            l->variance[c] = (float)(square > mean * mean ? square - mean * mean : 0);
        }
        const float slope = (float)(l->scale[c] / sqrt(l->variance[c] + l->epsilon));
        norm->by[c] = 1;
        norm->by[channels + c] = slope;
        norm->by[2 * channels + c] = l->shift[c] - slope * l->mean[c];
    }
}

/* The same for the gradient of the sum and the results, of which the moments are known, to be the gradient of the results:
slope (g - mean of g - n mean of g n), where n are results as they are normalised. */
static void normalise_back(const Layer *l, const Norm *norm, int64_t shares) {
    const int64_t channels = l->shape.small;
    const double pixels = (double)(l->images * l->shape.height * l->shape.width);
    for (int64_t c = 0; c < channels; c++) {
        const double deviation = sqrt(l->variance[c] + l->epsilon), slope = l->scale[c] / deviation, sum = total(l, norm, shares, c);
        const double along = (total(l, norm, shares, channels + c) - l->mean[c] * sum) / deviation;
        l->shift_gradient[c] = (float)sum;
        l->scale_gradient[c] = (float)along;
        norm->by[c] = (float)slope;
        norm->by[channels + c] = (float)(-slope * along / pixels / deviation);
        norm->by[2 * channels + c] = (float)(slope * (along * l->mean[c] / deviation - sum) / pixels);
    }
}

static value *image_at(const Layer *l, const void *images, int64_t n) { return (value *)images + n * out_size(l); }

/* Inputs and results of a residual layer to its sum. */
static void add_up(const Layer *l, const Norm *norm, int64_t n) {
    blend(l, image_at(l, l->in, n), image_at(l, l->out, n), norm->by, image_at(l, l->sum, n));
}

/* ---- passes ---------------------------------------------------------------------------------------------------------*/

typedef struct { /* of a call */
    const Layer *layers;
    int64_t count, threads;
    Norm norms[MAX_LAYERS];
    Room room;
} Call;

static void forward_through(const Layer *layers, int64_t first, int64_t end, int64_t n, const Packed *packed, const Room *room,
                            value *memory) {
    for (int64_t i = first; i < end; i++)
        forward_image(layers + i, n, packed->tiles[i], memory + (layers[i].up ? room->bordered : room->padded)[i]);
}

/* All images through the layers before `stop`, where a stage ends, each to where the next stage takes it. */
static void forward_stages(const Call *call, int64_t stop, const Packed *packed, value *memory) {
    const Layer *layers = call->layers;
    for (int64_t first = 0, end; first < stop; first = end) {
        const int64_t images = layers[first].images, shares = shares_of(layers + first, call->threads);
        end = stage_end(layers, call->count, first);
        const Layer *before = first ? layers + first - 1 : NULL, *last = layers + end - 1, *next = end < call->count ? last + 1 : NULL;
#pragma omp for schedule(static, 1)
        for (int64_t thread = 0; thread < shares; thread++) {
            int64_t from, to;
            share(images, shares, thread, &from, &to);
            if (last->sum) clear_moments(last, call->norms + end - 1, thread);
            for (int64_t n = from; memory && n < to; n++) {
                if (before && before->sum) add_up(before, call->norms + first - 1, n);
                forward_through(layers, first, end, n, packed, &call->room, memory);
                if (last->sum && last->batch)
                    add_moments(last, call->norms + end - 1, thread, image_at(last, last->out, n), image_at(last, last->out, n));
                if (next && next->rows)
                    flip(image_at(last, last->out, n), next->rows, next->columns, out_size(last), image_at(last, next->in, n));
            }
        }
        if (!last->sum) continue;
#pragma omp single
        normalise(last, call->norms + end - 1, shares);
        if (next) continue;
#pragma omp for schedule(static)
        for (int64_t n = 0; n < images; n++) add_up(last, call->norms + end - 1, n);
    }
}

/* ---- what convolution.py calls --------------------------------------------------------------------------------- */

/* Layers one after another, each taking what the one before it leaves. Returns 0, or 1 where memory ran out.
Threads are always as many, with less than an image each some have nothing to do: a smaller team would end the others. */
int chain_forward(const Layer *layers, int64_t count, int64_t threads) {
    Call call = {.layers = layers, .count = count, .threads = threads, .room = room_of(layers, count, 0, count)};
    const size_t tiles = packed_bytes(layers, count);
    char *shared = memory_of(SHARED, tiles + give_norms(layers, count, threads, NULL, NULL));
    if (!shared) return 1;
    const Packed packed = plan(layers, count, 1, 0, shared);
    give_norms(layers, count, threads, shared + tiles, call.norms);
    int failed = 0;
#pragma omp parallel num_threads((int)threads) reduction(| : failed)
    {
        value *memory = memory_of(OWN, (size_t)call.room.size * sizeof(value));
        if (memory) memset(memory, 0, (size_t)call.room.cleared * sizeof(value));
        failed = !memory;
#pragma omp for schedule(static)
        for (int64_t piece = 0; piece < packed.starts[count]; piece++) pack_piece(&packed, layers, piece);
        forward_stages(&call, count, &packed, memory);
        release();
    }
    return failed;
}

typedef struct { /* images that layers end in, and what to do with the Bernoulli errors of what they give for them */
    const float *pixels;
    float weight, *errors; /* of the errors' sum, whose gradient is taken; where they go */
} Target;

/* The errors of images `n` to `n + group`, which go through their last stage here, by layers `own` that have their results
in `memory`. Returns their gradient. */
static const float *miss(const Call *call, Layer *own, int64_t first, int64_t n, int64_t group, const Target *target,
                         const Packed *packed, value *memory) {
    const Layer *layers = call->layers;
    const int64_t size = out_size(layers + call->count - 1);
    float *gradient = (float *)(memory + call->room.errors);
    for (int64_t i = first; i < call->count; i++) {
        own[i] = layers[i];
        own[i].in = i == first ? input_at(layers + i, layers[i].in, n) : own[i - 1].out;
        own[i].out = memory + call->room.results[i];
    }
    for (int64_t i = 0; i < group; i++) {
        if (first && layers[first - 1].sum) add_up(layers + first - 1, call->norms + first - 1, n + i);
        forward_through(own, first, call->count, i, packed, &call->room, memory);
        target->errors[n + i] = bernoulli_image((float *)own[call->count - 1].out + i * size, target->pixels + (n + i) * size, size,
                                                target->weight, gradient + i * size);
    }
    return gradient;
}

typedef struct { /* of a call backwards */
    Call call;
    Packed packed, forwards;
    const Target *target; /* or NULL: then the gradient of the last layer's results is given */
    const void *gradient;
    value *input_gradient; /* where it is asked for */
    value *between;        /* gradients of the results before a stage, those of stage `first` from handed[first] on */
    int64_t handed[MAX_LAYERS];
    float *parts; /* of each thread: sums of layer i from starts[i] on */
    int64_t part, starts[MAX_LAYERS];
} Learning;

/* Where a thread sums gradients of a layer's weights: the first in the gradients themselves, where they have the form of
sums. */
static float *weight_sums(const Learning *l, int64_t i, int64_t thread) {
    const Layer *layer = l->call.layers + i;
    return thread || layer->shape.thin ? l->parts + thread * l->part + l->starts[i] : layer->weight_gradient;
}

static float *bias_sums(const Learning *l, int64_t i, int64_t thread) {
    const Layer *layer = l->call.layers + i;
    return thread ? l->parts + thread * l->part + l->starts[i] + sums_size(&layer->shape) : layer->bias_gradient;
}

/* Images `n` to `n + group` back through a stage, from layer `end` to `first`. */
static void group_back(const Learning *l, int64_t first, int64_t end, int64_t thread, int64_t n, int64_t group, int64_t fresh,
                       value *memory) {
    const Layer *layers = l->call.layers, *start = layers + first;
    const Norm *norms = l->call.norms;
    const Room *room = &l->call.room;
    Layer own[MAX_LAYERS];
    const int last = end == l->call.count, missing = l->target && last;
    value *handed = l->between + (first ? l->handed[first] + n * in_size(start) : 0);
    const void *here = missing ? miss(&l->call, own, first, n, group, l->target, &l->forwards, memory)
                               : result_at(layers + end - 1, last ? l->gradient : l->between + l->handed[end], n);
    value *towards = NULL;
    for (int64_t i = end - 1; i >= first; i--, here = towards) {
        const Layer *layer = missing ? own + i : layers + i;
        const value *of_sum = layer->sum ? here : NULL;
        for (int64_t k = 0; of_sum && k < group; k++)
            blend(layer, image_at(layer, of_sum, k), image_at(layer, layer->out, n + k), norms[i].by,
                  image_at(layer, memory + room->normal, k));
        if (of_sum) here = memory + room->normal;
        towards = i > first || start->rows ? memory + room->gradients[i % 2]
                  : first                  ? handed
                  : l->input_gradient      ? input_at(layer, l->input_gradient, n)
                                           : NULL;
        backward_group(layer, missing ? 0 : n, group, here, towards, l->packed.tiles[i], fresh, weight_sums(l, i, thread),
                       bias_sums(l, i, thread), memory + room->padded[i], memory + room->bordered[i], memory + room->left,
                       memory + room->pairs);
        if (of_sum && towards) add_to(towards, of_sum, group * in_size(layer));
    }
    if (start->rows) flip(towards, start->columns, start->rows, group * in_size(start), handed);
    const Layer *before = first ? start - 1 : NULL;
    for (int64_t k = 0; before && before->sum && k < group; k++)
        add_moments(before, norms + first - 1, thread, image_at(before, towards, k), image_at(before, before->out, n + k));
}

/* All images back through a stage. */
static void stage_back(const Learning *l, int64_t first, int64_t end, value *memory) {
    const Layer *layers = l->call.layers, *ends = layers + end - 1;
    const int64_t images = ends->images, shares = shares_of(ends, l->call.threads);
    if (ends->sum) {
        if (end == l->call.count) {
#pragma omp for schedule(static, 1)
            for (int64_t thread = 0; thread < shares; thread++) {
                int64_t from, to;
                share(images, shares, thread, &from, &to);
                clear_moments(ends, l->call.norms + end - 1, thread);
                for (int64_t n = from; n < to; n++)
                    add_moments(ends, l->call.norms + end - 1, thread, image_at(ends, l->gradient, n), image_at(ends, ends->out, n));
            }
        }
#pragma omp single
        normalise_back(ends, l->call.norms + end - 1, shares);
    }
#pragma omp for schedule(static, 1)
    for (int64_t thread = 0; thread < shares; thread++) {
        for (int64_t i = first; i < end; i++)
            memset(bias_sums(l, i, thread), 0, (size_t)biases_of(layers + i) * 4);
        if (first && layers[first - 1].sum) clear_moments(layers + first - 1, l->call.norms + first - 1, thread);
        int64_t from, to;
        share(images, shares, thread, &from, &to);
        for (int64_t n = from; memory && n < to; n += GROUP)
            group_back(l, first, end, thread, n, to - n < GROUP ? to - n : GROUP, n == from, memory);
    }
}

/* What threads have summed, into the gradients of a layer's weight and bias. */
static void sum_parts(const Learning *l, int64_t i) {
    const Layer *layer = l->call.layers + i;
    const Shape *s = &layer->shape;
    const int64_t values = s->kernel * s->kernel * s->big, biases = biases_of(layer);
    const int64_t shares = shares_of(layer, l->call.threads);
#pragma omp for schedule(static) nowait
    for (int64_t n = 0; n < s->small; n++)
        for (int64_t thread = !s->thin; thread < shares; thread++) {
            const float *more = weight_sums(l, i, thread) + (s->thin ? n : n * values);
            float *to = layer->weight_gradient + n * values;
            if (!thread) for (int64_t v = 0; v < values; v++) to[v] = more[v * s->small];
            else if (s->thin) for (int64_t v = 0; v < values; v++) to[v] += more[v * s->small];
            else for (int64_t v = 0; v < values; v++) to[v] += more[v];
        }
#pragma omp for schedule(static) nowait
    for (int64_t b = 0; b < biases; b++)
        for (int64_t thread = 1; thread < shares; thread++) layer->bias_gradient[b] += bias_sums(l, i, thread)[b];
}

/* The gradient of the last layer's results, or of what they miss of a target, to those of all weights and biases, and of
the first layer's inputs. */
static int learn(Learning *l, const Layer *layers, int64_t count, int64_t threads) {
    const int64_t kept = l->target ? stage_start(layers, count) : count; /* from here on results stay in a thread's memory */
    int64_t handed = 0;
    for (int64_t i = 0; i < count; i++) {
        l->starts[i] = l->part;
        l->part += (sums_size(&layers[i].shape) + biases_of(layers + i) + 15) / 16 * 16;
        l->handed[i] = handed;
        if (i && (layers[i].rows || layers[i - 1].sum)) handed += layers[i].images * in_size(layers + i);
    }
    const size_t tiles = packed_bytes(layers, count), both = (l->target ? 2 : 1) * tiles, parts = (size_t)(threads * l->part * 4);
    const size_t between = lines((size_t)handed * sizeof(value));
    char *shared = memory_of(SHARED, both + parts + between + give_norms(layers, count, threads, NULL, NULL));
    if (!shared) return 1;
    l->packed = plan(layers, count, 0, !l->input_gradient, shared);
    l->forwards = plan(layers, l->target ? count : 0, 1, 0, shared + tiles);
    l->parts = (float *)(shared + both);
    l->between = (value *)(shared + both + parts);
    l->call = (Call){.layers = layers, .count = count, .threads = threads, .room = room_of(layers, count, 1, kept)};
    give_norms(layers, count, threads, shared + both + parts + between, l->call.norms);
    const int64_t pieces = l->packed.starts[count], forward_pieces = l->target ? l->forwards.starts[count] : 0;
    int failed = 0;
#pragma omp parallel num_threads((int)threads) reduction(| : failed)
    {
        value *memory = memory_of(OWN, (size_t)l->call.room.size * sizeof(value));
        if (memory) memset(memory, 0, (size_t)l->call.room.cleared * sizeof(value));
        failed = !memory;
#pragma omp for schedule(static)
        for (int64_t piece = 0; piece < pieces + forward_pieces; piece++)
            if (piece < pieces) pack_piece(&l->packed, layers, piece);
            else pack_piece(&l->forwards, layers, piece - pieces);
        forward_stages(&l->call, l->target ? kept : 0, &l->forwards, memory);
        for (int64_t end = count, first; end > 0; end = first) {
            first = stage_start(layers, end);
            stage_back(l, first, end, memory);
        }
        release();
        for (int64_t i = 0; i < count; i++) sum_parts(l, i);
    }
    return failed;
}

int chain_backward(const Layer *layers, int64_t count, int64_t threads, const void *gradient, value *input_gradient) {
    Learning learning = {.gradient = gradient, .input_gradient = input_gradient};
    return learn(&learning, layers, count, threads);
}

/* The Bernoulli errors of the images that layers end in, pixels by pixels, and the gradient of their sum times a weight,
as by `backward`. Each image goes there and back before the next; the last stage keeps no results, so memory sees none. */
int chain_bernoulli(const Layer *layers, int64_t count, int64_t threads, const float *pixels, float weight, float *errors,
               value *input_gradient) {
    const Target target = {pixels, weight, errors};
    Learning learning = {.target = &target, .input_gradient = input_gradient};
    return learn(&learning, layers, count, threads);
}
