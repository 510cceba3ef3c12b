/* The Bernoulli likelihood of images and its gradient, in one pass over the pixels. The interface is likelihood.py. */

#include "tiles.h"

/* e to the power of x, for x at most 0; 0 below -104. Off by 3 in the last place at most. */
static __m512 power(__m512 x) {
    const __m512 bounded = _mm512_max_ps(_mm512_set1_ps(-104.0f), x); /* NaN stays NaN */
    const __m512 whole = _mm512_roundscale_ps(_mm512_mul_ps(bounded, _mm512_set1_ps(1.44269504f)), 0);
    __m512 rest = _mm512_fnmadd_ps(whole, _mm512_set1_ps(0.693359375f), bounded); /* the logarithm of 2 in two parts */
    rest = _mm512_fnmadd_ps(whole, _mm512_set1_ps(-2.12194440e-4f), rest);
    const float series[7] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
    __m512 sum = _mm512_set1_ps(series[0]);
    for (int i = 1; i < 7; i++) sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(series[i]));
    return _mm512_scalef_ps(sum, whole);
}

/* The logarithm of 1 + x, for x from 0 to 1: 2 artanh(x / (2 + x)). */
static __m512 log_plus_one(__m512 x) {
    const __m512 s = _mm512_div_ps(x, _mm512_add_ps(x, _mm512_set1_ps(2.0f))), square = _mm512_mul_ps(s, s);
    __m512 sum = _mm512_set1_ps(2.0f / 13);
    for (int i = 11; i > 0; i -= 2) sum = _mm512_fmadd_ps(sum, square, _mm512_set1_ps(2.0f / (float)i));
    return _mm512_mul_ps(s, sum);
}

/* For an image of `size` values with logits l and pixels x: the sum of max(l, 0) - l x + log(1 + exp(-|l|)). Where a
gradient is asked for, it is that of so much times the sum: the weight of sigmoid(l) - x. */
float bernoulli_image(const float *logits, const float *pixels, int64_t size, float weight, float *gradient) {
    const __m512 zero = _mm512_setzero_ps(), one = _mm512_set1_ps(1.0f);
    __m512 sums = zero;
    for (int64_t i = 0; i < size; i += 16) {
        const __mmask16 there = first_of_16(size - i);
        const __m512 l = _mm512_maskz_loadu_ps(there, logits + i), x = _mm512_maskz_loadu_ps(there, pixels + i);
        const __m512 small = power(_mm512_sub_ps(zero, _mm512_abs_ps(l)));
        const __m512 distance = _mm512_fnmadd_ps(l, x, _mm512_max_ps(zero, l)); /* 0 for black or white that is right */
        const __m512 error = _mm512_add_ps(distance, log_plus_one(small));
        sums = _mm512_mask_add_ps(sums, there, sums, error);
        if (!gradient) continue;
        const __m512 upper = _mm512_mask_blend_ps(negative(l), one, small);
        const __m512 sigmoid = _mm512_div_ps(upper, _mm512_add_ps(one, small));
        _mm512_mask_storeu_ps(gradient + i, there, _mm512_mul_ps(_mm512_set1_ps(weight), _mm512_sub_ps(sigmoid, x)));
    }
    return _mm512_reduce_add_ps(sums);
}

/* The same for several images, each with a sum and a gradient of its own. */
void bernoulli(const float *logits, const float *pixels, int64_t images, int64_t size, int64_t threads, float *errors,
               float *gradient) {
#pragma omp parallel for num_threads((int)threads) schedule(static)
    for (int64_t n = 0; n < images; n++)
        errors[n] = bernoulli_image(logits + n * size, pixels + n * size, size, 1.0f, gradient ? gradient + n * size : NULL);
}
