/* Adam's step. The interface is optimiser.py. */

#include <math.h>

#include "tiles.h"

typedef struct {
    float *weight, *mean, *square, *steps; /* moments of the gradients; steps: one number, those made before this one */
    const float *gradient;
    int64_t size;
} AdamWeight;

const int64_t size_of_AdamWeight = sizeof(AdamWeight);

enum { AHEAD = 1024 }; /* numbers that are fetched before their turn: twice as fast where they are in no cache */

INLINE void fetch(const float *number) { _mm_prefetch((const char *)(number + AHEAD), _MM_HINT_T0); }

/* Numbers `from` to `to` of a weight. */
static void move(const AdamWeight *m, int64_t from, int64_t to, double rate, double beta1, double beta2, double epsilon, double kept) {
    const __m512 new1 = _mm512_set1_ps((float)(1 - beta1)), old2 = _mm512_set1_ps((float)beta2);
    const __m512 new2 = _mm512_set1_ps((float)(1 - beta2)), least = _mm512_set1_ps((float)epsilon);
    const __m512 along = _mm512_set1_ps((float)(rate / (1 - pow(beta1, *m->steps)))), stays = _mm512_set1_ps((float)kept);
    const __m512 root2 = _mm512_set1_ps((float)sqrt(1 - pow(beta2, *m->steps)));
    for (int64_t i = from; i < to; i += 16) {
        const __mmask16 there = first_of_16(to - i);
        fetch(m->gradient + i), fetch(m->mean + i), fetch(m->square + i), fetch(m->weight + i);
        const __m512 gradient = _mm512_maskz_loadu_ps(there, m->gradient + i);
        __m512 mean = _mm512_maskz_loadu_ps(there, m->mean + i), square = _mm512_maskz_loadu_ps(there, m->square + i);
        mean = _mm512_fmadd_ps(new1, _mm512_sub_ps(gradient, mean), mean);
        square = _mm512_fmadd_ps(_mm512_mul_ps(new2, gradient), gradient, _mm512_mul_ps(old2, square));
        const __m512 scale = _mm512_add_ps(_mm512_div_ps(_mm512_sqrt_ps(square), root2), least);
        const __m512 weight = _mm512_mul_ps(stays, _mm512_maskz_loadu_ps(there, m->weight + i));
        _mm512_mask_storeu_ps(m->mean + i, there, mean);
        _mm512_mask_storeu_ps(m->square + i, there, square);
        _mm512_mask_storeu_ps(m->weight + i, there, _mm512_fnmadd_ps(along, _mm512_div_ps(mean, scale), weight));
    }
}

/* For all weights, m and v being mean and square, g the gradient, t the steps with this one, and all weights times `kept`
before:  m <- m + (1 - beta1) (g - m);  v <- beta2 v + (1 - beta2) g^2;
w <- w - rate / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon). */
void adam(const AdamWeight *moved, int64_t count, int64_t threads, double rate, double beta1, double beta2, double epsilon, double kept) {
    int64_t all = 0;
    for (int64_t i = 0; i < count; i++) all += moved[i].size, *moved[i].steps += 1;
#pragma omp parallel for num_threads((int)threads) schedule(static, 1)
    for (int64_t thread = 0; thread < threads; thread++) {
        int64_t first = all * thread / threads, last = all * (thread + 1) / threads;
        for (int64_t i = 0; i < count; first -= moved[i].size, last -= moved[i].size, i++) {
            const int64_t from = first > 0 ? first : 0, to = last < moved[i].size ? last : moved[i].size;
            if (from < to) move(moved + i, from, to, rate, beta1, beta2, epsilon, kept);
        }
    }
}
