/* Muon's step for matrices of weights. The interface is optimiser.py.

A thread takes a matrix through the whole step. Matrices of values are padded with zeros to multiples of 32 in height and
width, which iterations leave at zero, and wide: a tall one is transposed. */

#include "tiles.h"

typedef struct {
    float *weight, *momentum; /* (height, width) values */
    const float *gradient;
    int64_t height, width;
} MuonMatrix;

const int64_t size_of_MuonMatrix = sizeof(MuonMatrix);

static int64_t padded(int64_t size) { return (size + 31) / 32 * 32; }

/* Moves the momentum, and leaves the direction in which it and the gradient point, divided by its norm. */
static void point(const MuonMatrix *x, float momentum, value *to) {
    const int64_t width = padded(x->width);
    const __m512 share = _mm512_set1_ps(momentum), rest = _mm512_set1_ps(1 - momentum);
    __m512 squares = _mm512_setzero_ps();
    memset(to, 0, (size_t)(padded(x->height) * width) * sizeof(value));
    for (int pass = 0; pass < 2; pass++) { /* the norm; the direction */
        const __m512 scale = _mm512_set1_ps(1 / (__builtin_sqrtf(_mm512_reduce_add_ps(squares)) + 1e-7f));
        for (int64_t y = 0; y < x->height; y++)
            for (int64_t c = 0; c < x->width; c += 16) {
                const int64_t at = y * x->width + c;
                const __mmask16 there = first_of_16(x->width - c);
                const __m512 gradient = _mm512_maskz_loadu_ps(there, x->gradient + at);
                __m512 moved = _mm512_maskz_loadu_ps(there, x->momentum + at);
                if (!pass) {
                    moved = _mm512_fmadd_ps(rest, _mm512_sub_ps(gradient, moved), moved);
                    _mm512_mask_storeu_ps(x->momentum + at, there, moved);
                }
                const __m512 direction = _mm512_fmadd_ps(share, _mm512_sub_ps(moved, gradient), gradient);
                if (!pass) squares = _mm512_fmadd_ps(direction, direction, squares);
                else put(to + y * width + c, 0xffff, _mm512_mul_ps(direction, scale));
            }
    }
}

/* Right tiles of a matrix (height, width), two for each block of 32 columns and 32 rows. */
static void pack(const value *from, int64_t height, int64_t width, value *tiles) {
    for (int64_t x = 0; x < width; x += 32)
        for (int64_t y = 0; y < height; y += 32, tiles += 1024)
            for (int64_t i = 0; i < 32 / PAIR; i++)
                interleave(from + (y + PAIR * i) * width + x, width, tiles + LANES * i, tiles + 512 + LANES * i);
}

/* Right tiles of the transpose of a matrix (height, width), in the same order. */
static void pack_transpose(const value *from, int64_t height, int64_t width, value *tiles) {
    for (int64_t y = 0; y < height; y += 32)
        for (int64_t x = 0; x < width; x += 32)
            for (int64_t half = 0; half < 32; half += 16)
                for (int64_t part = 0; part < 32; part += LANES, tiles += 16 * LANES) {
                    __m512i rows[16];
                    for (int64_t i = 0; i < 16; i++) rows[i] = _mm512_loadu_si512(from + (y + half + i) * width + x + part);
                    TRANSPOSE(rows, 16, uint32_t, _mm512_permutex2var_epi32)
                    for (int64_t i = 0; i < 16; i++) _mm512_storeu_si512(tiles + LANES * i, rows[i]);
                }
}

/* product = alpha left right + beta added, where left is (height, depth), right in tiles, and the rest (height, width).
Of a symmetric product only one half is multiplied. `panel` has room for 32 rows of left. */
static void multiply(const value *left, const value *right, int64_t height, int64_t depth, int64_t width, int symmetric,
                     float alpha, float beta, const value *added, value *product, value *panel) {
    float sums[32][32] __attribute__((aligned(64)));
    const __m512 some = _mm512_set1_ps(alpha), more = _mm512_set1_ps(beta);
    for (int64_t y = 0; y < height; y += 32) {
        for (int64_t i = 0; i < 32; i++) /* tiles one after another, so that they share the L1 cache well */
            for (int64_t k = 0; k < depth; k += 32)
                memcpy(panel + k * 32 + i * 32, left + (y + i) * depth + k, 32 * sizeof(value));
        for (int64_t x = symmetric ? y : 0; x < width; x += 32) {
            const value *rows = panel, *tiles = right + x * depth;
#ifdef __AMX_BF16__
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
            for (int64_t k = 0; k < depth; k += 32, rows += 1024, tiles += 1024) {
                _tile_loadd(4, rows, 64);
                _tile_loadd(6, tiles, 64);
                _tile_loadd(7, tiles + 512, 64);
                _tile_dpbf16ps(0, 4, 6);
                _tile_dpbf16ps(1, 4, 7);
                _tile_loadd(5, rows + 512, 64);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
            _tile_stored(0, sums[0], 128);
            _tile_stored(1, sums[0] + 16, 128);
            _tile_stored(2, sums[16], 128);
            _tile_stored(3, sums[16] + 16, 128);
#else
            for (int quarter = 0; quarter < 4; quarter++) { /* rows below, columns beside */
                __m512 sum[16];
                load_sums(sum, NULL, 0);
                for (int64_t k = 0; k < depth; k += 32)
                    add_product(sum, 16, rows + k * 32 + quarter / 2 * 512, 32 * sizeof(value), 0, 32, tiles + k * 32 + quarter % 2 * 512, 64);
                store_sums(sum, sums[quarter / 2 * 16] + quarter % 2 * 16, 32);
            }
#endif
            for (int64_t i = 0; i < 32; i++)
                for (int64_t half = 0; half < 32; half += 16) {
                    const int64_t at = (y + i) * width + x + half;
                    __m512 result = _mm512_mul_ps(some, _mm512_load_ps(sums[i] + half));
                    if (added) result = _mm512_fmadd_ps(more, floats_of(added + at), result);
                    put(product + at, 0xffff, result);
                }
            for (int64_t i = 0; i < 32 && symmetric && x > y; i += LANES)
                for (int64_t j = 0; j < 32; j += LANES) {
                    __m512i rows[LANES];
                    for (int64_t k = 0; k < LANES; k++) rows[k] = _mm512_loadu_si512(product + (y + i + k) * width + x + j);
                    TRANSPOSE_VALUES(rows)
                    for (int64_t k = 0; k < LANES; k++) _mm512_storeu_si512(product + (x + j + k) * width + y + i, rows[k]);
                }
        }
    }
}

/* Moves weights against a direction, after they have shrunk. */
static void move(const MuonMatrix *x, const value *direction, float step, float kept) {
    const int64_t width = padded(x->width);
    for (int64_t y = 0; y < x->height; y++)
        for (int64_t c = 0; c < x->width; c += 16) {
            const __mmask16 there = first_of_16(x->width - c);
            float *weight = x->weight + y * x->width + c;
            const __m512 shrunk = _mm512_mul_ps(_mm512_set1_ps(kept), _mm512_maskz_loadu_ps(there, weight));
            _mm512_mask_storeu_ps(weight, there, _mm512_fnmadd_ps(_mm512_set1_ps(step), floats_of(direction + y * width + c), shrunk));
        }
}

/* A step of each matrix. `coefficients` are those of an iteration: x, x x' x, (x x')^2 x. Returns 0, or 1 where memory
ran out, before anything has moved. */
int muon(const MuonMatrix *matrices, int64_t count, float rate, float momentum, float kept, const float *coefficients,
         int64_t iterations, int64_t threads) {
    int64_t largest = 0;
    for (int64_t i = 0; i < count; i++) {
        const int64_t size = padded(matrices[i].height) * padded(matrices[i].width);
        largest = size > largest ? size : largest;
    }
    int failed = 0;
#pragma omp parallel num_threads((int)threads)
    {
        value *const memory = memory_of(OWN, (size_t)(6 * largest) * sizeof(value));
        if (!memory) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp barrier
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < count; i++) {
            if (failed) continue;
            value *now = memory, *next = now + largest, *square = next + largest, *power = square + largest, *tiles = power + largest, *panel = tiles + largest;
            const MuonMatrix *x = matrices + i;
            const int64_t height = padded(x->height), width = padded(x->width), tall = height > width;
            const int64_t m = tall ? width : height, n = tall ? height : width;
            point(x, momentum, tall ? next : now);
            if (tall) transpose(next, height, 1, width, width, height, now);
            configure(16, 32);
            for (int64_t k = 0; k < iterations; k++) {
                pack_transpose(now, m, n, tiles);
                multiply(now, tiles, m, n, m, 1, 1, 0, NULL, square, panel);
                pack_transpose(square, m, m, tiles);
                multiply(square, tiles, m, m, m, 1, coefficients[2], coefficients[1], square, power, panel);
                pack(now, m, n, tiles);
                multiply(power, tiles, m, m, n, 0, 1, coefficients[0], now, next, panel);
                value *other = now;
                now = next, next = other;
            }
            if (tall) transpose(now, m, 1, n, n, m, next);
            move(x, tall ? next : now, rate * __builtin_sqrtf((float)(x->height > x->width ? x->height : x->width)), kept);
        }
        release();
    }
    return failed;
}
