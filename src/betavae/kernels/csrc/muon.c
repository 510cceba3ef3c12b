/* Muon's step for matrices of weights. Called by optimisers.py.

A thread takes a matrix through the whole step. Matrices of elements are padded with zeros to multiples of 32 in height and
width; iterations leave these zeros at zero. They are wide: a tall matrix is transposed. */

#include "layout.h"
#include "tiles.h"
#include "workspace.h"

typedef struct {
    float *weight, *momentum; /* (height, width) floats */
    const float *gradient;
    int64_t height, width;
} MuonMatrix;

const int64_t size_of_MuonMatrix = sizeof(MuonMatrix);

static int64_t padded_32(int64_t size) { return (size + 31) / 32 * 32; }

/* momentum <- mu momentum + (1 - mu) g;  to = d / |d|, where d = mu momentum + (1 - mu) g once more. */
static void nesterov_direction(const MuonMatrix *x, float momentum, elem_t *to) {
    const int64_t width = padded_32(x->width);
    const __m512 mu = _mm512_set1_ps(momentum), mu_rest = _mm512_set1_ps(1 - momentum);
    __m512 squares = _mm512_setzero_ps();
    memset(to, 0, (size_t)(padded_32(x->height) * width) * sizeof(elem_t));
    for (int pass = 0; pass < 2; pass++) { /* first |d|, then d / |d| */
        const __m512 scale = _mm512_set1_ps(1 / (__builtin_sqrtf(_mm512_reduce_add_ps(squares)) + 1e-7f));
        for (int64_t y = 0; y < x->height; y++)
            for (int64_t c = 0; c < x->width; c += 16) {
                const int64_t at = y * x->width + c;
                const __mmask16 valid = first_of_16(x->width - c);
                const __m512 gradient = _mm512_maskz_loadu_ps(valid, x->gradient + at);
                __m512 next_momentum = _mm512_maskz_loadu_ps(valid, x->momentum + at);
                if (!pass) {
                    next_momentum = _mm512_fmadd_ps(mu_rest, _mm512_sub_ps(gradient, next_momentum), next_momentum);
                    _mm512_mask_storeu_ps(x->momentum + at, valid, next_momentum);
                }
                const __m512 direction = _mm512_fmadd_ps(mu, _mm512_sub_ps(next_momentum, gradient), gradient);
                if (!pass) squares = _mm512_fmadd_ps(direction, direction, squares);
                else store_floats(to + y * width + c, 0xffff, _mm512_mul_ps(direction, scale));
            }
    }
}

/* B tiles of a matrix (height, width), two for each block of 32 columns and 32 rows. */
static void pack_b(const elem_t *from, int64_t height, int64_t width, elem_t *tiles) {
    for (int64_t x = 0; x < width; x += 32)
        for (int64_t y = 0; y < height; y += 32, tiles += 1024)
            for (int64_t i = 0; i < 32 / VNNI; i++)
                pack_vnni_32(from + (y + VNNI * i) * width + x, width, tiles + LANES * i, tiles + 512 + LANES * i);
}

/* B tiles of the transpose of a matrix (height, width), in the same order. */
static void pack_b_transposed(const elem_t *from, int64_t height, int64_t width, elem_t *tiles) {
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

/* C (32, 32) = A (32, depth) @ B (depth, 32). A is a panel of tiles, [block of 32 of depth][32 rows][32], B two B tiles for
each block. */
static void gemm_block(const elem_t *a, const elem_t *b, int64_t depth, float (*c)[32]) {
#ifdef __AMX_BF16__
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t k = 0; k < depth; k += TILE_K, a += 1024, b += 1024) {
        _tile_loadd(4, a, 64);
        _tile_loadd(6, b, 64);
        _tile_loadd(7, b + B_TILE, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a + 512, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c[0], 128);
    _tile_stored(1, c[0] + 16, 128);
    _tile_stored(2, c[16], 128);
    _tile_stored(3, c[16] + 16, 128);
#else
    for (int quarter = 0; quarter < 4; quarter++) {
        __m512 tile[16];
        load_tile(tile, NULL, 0);
        for (int64_t k = 0; k < depth; k += TILE_K)
            tile_fma(tile, 16, a + k * 32 + quarter / 2 * 512, 32 * sizeof(elem_t), 0, TILE_K, b + k * 32 + quarter % 2 * B_TILE, 64);
        store_tile(tile, c[quarter / 2 * 16] + quarter % 2 * 16, 32);
    }
#endif
}

/* Copies the block (32, 32) at (y, x) of a matrix with rows of `width` to (x, y), transposed. */
static void mirror_block(elem_t *matrix, int64_t width, int64_t y, int64_t x) {
    for (int64_t i = 0; i < 32; i += LANES)
        for (int64_t j = 0; j < 32; j += LANES) {
            __m512i rows[LANES];
            for (int64_t k = 0; k < LANES; k++) rows[k] = _mm512_loadu_si512(matrix + (y + i + k) * width + x + j);
            TRANSPOSE_ELEMENTS(rows)
            for (int64_t k = 0; k < LANES; k++) _mm512_storeu_si512(matrix + (x + j + k) * width + y + i, rows[k]);
        }
}

/* C (height, width) = alpha A (height, depth) @ B (depth, width) + beta D (height, width), with B in tiles, D or NULL. Of a
symmetric C only one half is multiplied. `panel` has room for 32 rows of A. */
static void gemm(const elem_t *a, const elem_t *b, int64_t height, int64_t depth, int64_t width, int symmetric, float alpha,
                 float beta, const elem_t *d, elem_t *c, elem_t *panel) {
    float sums[32][32] __attribute__((aligned(64)));
    const __m512 alphas = _mm512_set1_ps(alpha), betas = _mm512_set1_ps(beta);
    for (int64_t y = 0; y < height; y += 32) {
        for (int64_t i = 0; i < 32; i++) /* tile after tile, which the L1 cache holds well */
            for (int64_t k = 0; k < depth; k += 32) memcpy(panel + k * 32 + i * 32, a + (y + i) * depth + k, 32 * sizeof(elem_t));
        for (int64_t x = symmetric ? y : 0; x < width; x += 32) {
            gemm_block(panel, b + x * depth, depth, sums);
            for (int64_t i = 0; i < 32; i++)
                for (int64_t half = 0; half < 32; half += 16) {
                    const int64_t at = (y + i) * width + x + half;
                    __m512 result = _mm512_mul_ps(alphas, _mm512_load_ps(sums[i] + half));
                    if (d) result = _mm512_fmadd_ps(betas, load_floats(d + at), result);
                    store_floats(c + at, 0xffff, result);
                }
            if (symmetric && x > y) mirror_block(c, width, y, x);
        }
    }
}

/* weight <- decay weight - step direction. */
static void update_weights(const MuonMatrix *x, const elem_t *direction, float step, float decay) {
    const int64_t width = padded_32(x->width);
    for (int64_t y = 0; y < x->height; y++)
        for (int64_t c = 0; c < x->width; c += 16) {
            const __mmask16 valid = first_of_16(x->width - c);
            float *weight = x->weight + y * x->width + c;
            const __m512 shrunk = _mm512_mul_ps(_mm512_set1_ps(decay), _mm512_maskz_loadu_ps(valid, weight));
            _mm512_mask_storeu_ps(weight, valid, _mm512_fnmadd_ps(_mm512_set1_ps(step), load_floats(direction + y * width + c), shrunk));
        }
}

/* One matrix: direction, Newton-Schulz iterations X <- a X + b X X^T X + c (X X^T)^2 X, update. `memory` holds six matrices
of `largest` elements. */
static void step(const MuonMatrix *x, elem_t *memory, int64_t largest, float rate, float momentum, float decay, const float *abc,
                 int64_t iterations) {
    elem_t *now = memory, *next = now + largest, *square = next + largest, *power = square + largest;
    elem_t *tiles = power + largest, *panel = tiles + largest;
    const int64_t height = padded_32(x->height), width = padded_32(x->width), tall = height > width;
    const int64_t m = tall ? width : height, n = tall ? height : width;
    nesterov_direction(x, momentum, tall ? next : now);
    if (tall) transpose_image(next, height, 1, width, width, height, now);
    configure_tiles(MR, TILE_K);
    for (int64_t k = 0; k < iterations; k++) {
        pack_b_transposed(now, m, n, tiles);
        gemm(now, tiles, m, n, m, 1, 1, 0, NULL, square, panel); /* X X^T (m, m) */
        pack_b_transposed(square, m, m, tiles);
        gemm(square, tiles, m, m, m, 1, abc[2], abc[1], square, power, panel); /* b X X^T + c (X X^T)^2 (m, m) */
        pack_b(now, m, n, tiles);
        gemm(power, tiles, m, m, n, 0, 1, abc[0], now, next, panel); /* (m, n) */
        elem_t *other = now;
        now = next, next = other;
    }
    if (tall) transpose_image(now, m, 1, n, n, m, next);
    update_weights(x, tall ? next : now, rate * __builtin_sqrtf((float)(x->height > x->width ? x->height : x->width)), decay);
}

/* A step of each matrix, with coefficients (a, b, c). Returns 0, or 1 where memory ran out, before any weight has changed. */
int muon(const MuonMatrix *matrices, int64_t count, float rate, float momentum, float decay, const float *abc, int64_t iterations,
         int64_t threads) {
    int64_t largest = 0;
    for (int64_t i = 0; i < count; i++) {
        const int64_t size = padded_32(matrices[i].height) * padded_32(matrices[i].width);
        largest = size > largest ? size : largest;
    }
    int failed = 0;
#pragma omp parallel num_threads((int)threads)
    {
        elem_t *const memory = workspace(OWN, (size_t)(6 * largest) * sizeof(elem_t));
        if (!memory) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp barrier
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < count; i++)
            if (!failed) step(matrices + i, memory, largest, rate, momentum, decay, abc, iterations);
        release_tiles();
    }
    return failed;
}
