/* The Bernoulli likelihood of images and its gradient, in one pass over the pixels. Called by likelihood.py. */

#include "bernoulli.h"
#include "simd.h"

/* exp(x) for x <= 0; 0 below -104. The error is at most 3 units in the last place. */
static __m512 exp_of_negative(__m512 x) {
    const __m512 bounded = _mm512_max_ps(_mm512_set1_ps(-104.0f), x); /* NaN stays NaN */
    const __m512 whole = _mm512_roundscale_ps(_mm512_mul_ps(bounded, _mm512_set1_ps(1.44269504f)), 0);
    __m512 rest = _mm512_fnmadd_ps(whole, _mm512_set1_ps(0.693359375f), bounded); /* log 2 in two parts */
    rest = _mm512_fnmadd_ps(whole, _mm512_set1_ps(-2.12194440e-4f), rest);
    const float series[7] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
    __m512 sum = _mm512_set1_ps(series[0]);
    for (int i = 1; i < 7; i++) sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(series[i]));
    return _mm512_scalef_ps(sum, whole);
}

/* log(1 + x) for 0 <= x <= 1: 2 artanh(x / (2 + x)). */
static __m512 log1p_of_fraction(__m512 x) {
    const __m512 s = _mm512_div_ps(x, _mm512_add_ps(x, _mm512_set1_ps(2.0f))), square = _mm512_mul_ps(s, s);
    __m512 sum = _mm512_set1_ps(2.0f / 13);
    for (int i = 11; i > 0; i -= 2) sum = _mm512_fmadd_ps(sum, square, _mm512_set1_ps(2.0f / (float)i));
    return _mm512_mul_ps(s, sum);
}

/* The sum of max(l, 0) - l x + log(1 + exp(-|l|)) over logits l and pixels x. */
float bernoulli_image(const float *logits, const float *pixels, int64_t size, float weight, float *gradient) {
    const __m512 zero = _mm512_setzero_ps(), one = _mm512_set1_ps(1.0f);
    __m512 sums = zero;
    for (int64_t i = 0; i < size; i += 16) {
        const __mmask16 valid = first_of_16(size - i);
        const __m512 l = _mm512_maskz_loadu_ps(valid, logits + i), x = _mm512_maskz_loadu_ps(valid, pixels + i);
        const __m512 small = exp_of_negative(_mm512_sub_ps(zero, _mm512_abs_ps(l)));
        const __m512 distance = _mm512_fnmadd_ps(l, x, _mm512_max_ps(zero, l)); /* 0 for a black or white pixel that is right */
        const __m512 error = _mm512_add_ps(distance, log1p_of_fraction(small));
        sums = _mm512_mask_add_ps(sums, valid, sums, error);
        if (!gradient) continue;
        const __m512 upper = _mm512_mask_blend_ps(negative_mask(l), one, small);
        const __m512 sigmoid = _mm512_div_ps(upper, _mm512_add_ps(one, small));
        _mm512_mask_storeu_ps(gradient + i, valid, _mm512_mul_ps(_mm512_set1_ps(weight), _mm512_sub_ps(sigmoid, x)));
    }
    return _mm512_reduce_add_ps(sums);
}

/* The same for each of several images: logits (images, size), pixels (images, size) -> errors (images,), gradient. */
void bernoulli(const float *logits, const float *pixels, int64_t images, int64_t size, int64_t threads, float *errors,
               float *gradient) {
#pragma omp parallel for num_threads((int)threads) schedule(static)
    for (int64_t n = 0; n < images; n++)
        errors[n] = bernoulli_image(logits + n * size, pixels + n * size, size, 1.0f, gradient ? gradient + n * size : NULL);
}
