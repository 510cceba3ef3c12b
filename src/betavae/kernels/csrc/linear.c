/* Small linear layers, in float32: of few inputs, such as latents, or of few outputs, such as posterior statistics.

Forward passes take the rows of the batch that one image stands for, backward passes those of a group of images. Weights
are in their layout in memory, (outputs, inputs). `few` is the small number of the two, `many` the other, a multiple of 32. */

#include "layer.h"

/* out (rows, many) = in (rows, few) @ W^T (few, many) + bias (many,), through a ReLU where there is one. */
void small_in_forward(const Layer *l, const float *in, elem_t *out) {
    const int64_t few = l->shape.C, many = l->shape.K, rows = l->shape.P * l->shape.Q;
    static const int32_t first_16[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const __m512i along = _mm512_mullo_epi32(_mm512_set1_epi32((int)few), _mm512_loadu_si512(first_16));
    for (int64_t c = 0; c < many; c += 16) {
        __m512 weights[MAX_SMALL];
        for (int64_t i = 0; i < few; i++) weights[i] = _mm512_i32gather_ps(along, l->weight + c * few + i, 4);
        for (int64_t r = 0; r < rows; r++) {
            __m512 sum = _mm512_loadu_ps(l->bias + c);
            for (int64_t i = 0; i < few; i++) sum = _mm512_fmadd_ps(_mm512_set1_ps(in[r * few + i]), weights[i], sum);
            if (l->relu) sum = _mm512_max_ps(_mm512_setzero_ps(), sum); /* NaN stays NaN */
            store_floats(out + r * many + c, 0xffff, sum);
        }
    }
}

/* out (rows, few) = in (rows, many) @ W^T (many, few) + bias (few,). Four rows share each load of W. */
void small_out_forward(const Layer *l, const elem_t *in, float *out) {
    const int64_t few = l->shape.K, many = l->shape.C, rows = l->shape.P * l->shape.Q;
    for (int64_t r = 0; r < rows; r += 4)
        for (int64_t i = 0; i < few; i++) {
            __m512 sums[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
            for (int64_t c = 0; c < many; c += 16) {
                const __m512 weights = _mm512_loadu_ps(l->weight + i * many + c);
                for (int k = 0; k < 4; k++) sums[k] = _mm512_fmadd_ps(load_floats(in + (r + k) * many + c), weights, sums[k]);
            }
            for (int k = 0; k < 4; k++) out[(r + k) * few + i] = _mm512_reduce_add_ps(sums[k]) + l->bias[i];
        }
}

/* dW (many, few) += g^T (many, rows) @ in (rows, few);  in_gradient (rows, few) = g (rows, many) @ W (many, few), where g is
the gradient, backward through the ReLU. Rows of `in` stay in registers or in the L1 cache, 16 inputs at a time. */
void small_in_backward(const Layer *l, int64_t rows, const float *in, const elem_t *out, const elem_t *gradient, float *in_gradient,
                        float *weight_sums, float *bias_sums) {
    const int64_t few = l->shape.C, many = l->shape.K;
    for (int64_t i = 0; i < few; i += 16) {
        const __mmask16 valid = first_of_16(few - i);
        __m512 inputs[MAX_ROWS], in_gradients[MAX_ROWS], gradients[MAX_ROWS];
        for (int64_t r = 0; r < rows; r++) {
            inputs[r] = _mm512_maskz_loadu_ps(valid, in + r * few + i);
            in_gradients[r] = _mm512_setzero_ps();
        }
        for (int64_t c = 0; c < many; c += 16) {
            __m512 total = _mm512_loadu_ps(bias_sums + c);
            for (int64_t r = 0; r < rows; r++) {
                gradients[r] = load_floats(gradient + r * many + c);
                if (l->relu) gradients[r] = relu_backward_ps(load_floats(out + r * many + c), gradients[r]);
                total = _mm512_add_ps(total, gradients[r]);
            }
            if (!i) _mm512_storeu_ps(bias_sums + c, total);
            for (int64_t k = 0; k < 16; k++) {
                const __m512 weights = _mm512_maskz_loadu_ps(valid, l->weight + (c + k) * few + i);
                __m512 sum = _mm512_maskz_loadu_ps(valid, weight_sums + (c + k) * few + i), other = _mm512_setzero_ps();
                for (int64_t r = 0; r < rows; r += 2) {
                    const __m512 here = _mm512_set1_ps(((float *)(gradients + r))[k]);
                    const __m512 next = _mm512_set1_ps(((float *)(gradients + r + 1))[k]);
                    sum = _mm512_fmadd_ps(here, inputs[r], sum);
                    other = _mm512_fmadd_ps(next, inputs[r + 1], other);
                    in_gradients[r] = _mm512_fmadd_ps(here, weights, in_gradients[r]);
                    in_gradients[r + 1] = _mm512_fmadd_ps(next, weights, in_gradients[r + 1]);
                }
                _mm512_mask_storeu_ps(weight_sums + (c + k) * few + i, valid, _mm512_add_ps(sum, other));
            }
        }
        for (int64_t r = 0; in_gradient && r < rows; r++) _mm512_mask_storeu_ps(in_gradient + r * few + i, valid, in_gradients[r]);
    }
}

/* dW (few, many) += g^T (few, rows) @ in (rows, many);  in_gradient (rows, many) = g (rows, few) @ W (few, many). */
void small_out_backward(const Layer *l, int64_t rows, const elem_t *in, const float *gradient, elem_t *in_gradient,
                        float *weight_sums, float *bias_sums) {
    const int64_t few = l->shape.K, many = l->shape.C;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < few; i++) bias_sums[i] += gradient[r * few + i];
    for (int64_t c = 0; c < many; c += 16) {
        __m512 inputs[MAX_ROWS];
        for (int64_t r = 0; r < rows; r++) inputs[r] = load_floats(in + r * many + c);
        for (int64_t i = 0; i < few; i++) {
            __m512 sum = _mm512_loadu_ps(weight_sums + i * many + c), other = _mm512_setzero_ps();
            for (int64_t r = 0; r < rows; r += 2) {
                sum = _mm512_fmadd_ps(_mm512_set1_ps(gradient[r * few + i]), inputs[r], sum);
                other = _mm512_fmadd_ps(_mm512_set1_ps(gradient[(r + 1) * few + i]), inputs[r + 1], other);
            }
            _mm512_storeu_ps(weight_sums + i * many + c, _mm512_add_ps(sum, other));
        }
        for (int64_t r = 0; in_gradient && r < rows; r++) {
            __m512 row = _mm512_setzero_ps();
            for (int64_t i = 0; i < few; i++)
                row = _mm512_fmadd_ps(_mm512_set1_ps(gradient[r * few + i]), _mm512_loadu_ps(l->weight + i * many + c), row);
            store_floats(in_gradient + r * many + c, 0xffff, row);
        }
    }
}
