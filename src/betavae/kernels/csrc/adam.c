/* Adam's step. Called by optimisers.py. */

#include <math.h>

#include "simd.h"

typedef struct {
    float *weight, *mean, *square; /* first and second moment of the gradients */
    float *steps;                  /* one number: the steps made before this one */
    const float *gradient;
    int64_t size;
} AdamWeight;

const int64_t size_of_AdamWeight = sizeof(AdamWeight);

enum { PREFETCH_DISTANCE = 1024 }; /* floats; twice as fast where weights are in no cache */

INLINE void prefetch(const float *from) { _mm_prefetch((const char *)(from + PREFETCH_DISTANCE), _MM_HINT_T0); }

/* Updates the values `from` to `to` of a weight. */
static void update(const AdamWeight *w, int64_t from, int64_t to, double rate, double beta1, double beta2, double epsilon,
                   double decay) {
    const __m512 beta1_rest = _mm512_set1_ps((float)(1 - beta1)), beta2_all = _mm512_set1_ps((float)beta2);
    const __m512 beta2_rest = _mm512_set1_ps((float)(1 - beta2)), eps = _mm512_set1_ps((float)epsilon);
    const __m512 step_size = _mm512_set1_ps((float)(rate / (1 - pow(beta1, *w->steps)))), decays = _mm512_set1_ps((float)decay);
    const __m512 root2 = _mm512_set1_ps((float)sqrt(1 - pow(beta2, *w->steps)));
    for (int64_t i = from; i < to; i += 16) {
        const __mmask16 valid = first_of_16(to - i);
        prefetch(w->gradient + i), prefetch(w->mean + i), prefetch(w->square + i), prefetch(w->weight + i);
        const __m512 gradient = _mm512_maskz_loadu_ps(valid, w->gradient + i);
        __m512 mean = _mm512_maskz_loadu_ps(valid, w->mean + i), square = _mm512_maskz_loadu_ps(valid, w->square + i);
        mean = _mm512_fmadd_ps(beta1_rest, _mm512_sub_ps(gradient, mean), mean);
        square = _mm512_fmadd_ps(_mm512_mul_ps(beta2_rest, gradient), gradient, _mm512_mul_ps(beta2_all, square));
        const __m512 scale = _mm512_add_ps(_mm512_div_ps(_mm512_sqrt_ps(square), root2), eps);
        const __m512 weight = _mm512_mul_ps(decays, _mm512_maskz_loadu_ps(valid, w->weight + i));
        _mm512_mask_storeu_ps(w->mean + i, valid, mean);
        _mm512_mask_storeu_ps(w->square + i, valid, square);
        _mm512_mask_storeu_ps(w->weight + i, valid, _mm512_fnmadd_ps(step_size, _mm512_div_ps(mean, scale), weight));
    }
}

/* One step for all weights w with gradients g, moments m and v, at step t:

    m <- m + (1 - beta1) (g - m);    v <- beta2 v + (1 - beta2) g^2;
    w <- decay w - rate / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon).

Threads take equal parts of all values, whichever weight these belong to. */
void adam(const AdamWeight *weights, int64_t count, int64_t threads, double rate, double beta1, double beta2, double epsilon,
          double decay) {
    int64_t all = 0;
    for (int64_t i = 0; i < count; i++) all += weights[i].size, *weights[i].steps += 1;
#pragma omp parallel for num_threads((int)threads) schedule(static, 1)
    for (int64_t thread = 0; thread < threads; thread++) {
        int64_t first = all * thread / threads, last = all * (thread + 1) / threads;
        for (int64_t i = 0; i < count; first -= weights[i].size, last -= weights[i].size, i++) {
            const int64_t from = first > 0 ? first : 0, to = last < weights[i].size ? last : weights[i].size;
            if (from < to) update(weights + i, from, to, rate, beta1, beta2, epsilon, decay);
        }
    }
}
