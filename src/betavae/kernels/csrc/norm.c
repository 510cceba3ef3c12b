/* See norm.h. */

#include "norm.h"

#include <math.h>

static size_t norm_bytes(const Layer *l, int64_t threads) {
    return l->sum ? cache_lines((size_t)(threads * l->shape.K * 16)) + cache_lines((size_t)l->shape.K * 12) : 0;
}

/* Gives all norms their memory. Returns its size; without memory that is all. */
size_t allocate_norms(const Layer *layers, int64_t count, int64_t threads, char *memory, Norm *norms) {
    size_t size = 0;
    for (int64_t i = 0; i < count; size += norm_bytes(layers + i++, threads))
        if (memory && layers[i].sum) {
            norms[i].moments = (double *)(memory + size);
            norms[i].factors = (float *)(memory + size + cache_lines((size_t)(threads * layers[i].shape.K * 16)));
        }
    return size;
}

static double *moments_of(const Layer *l, const Norm *norm, int64_t thread) { return norm->moments + thread * l->shape.K * 2; }

void clear_moments(const Layer *l, const Norm *norm, int64_t thread) {
    memset(moments_of(l, norm, thread), 0, (size_t)l->shape.K * 16);
}

/* Adds the sums over the pixels of an image of x, and of x times y. */
void add_moments(const Layer *l, const Norm *norm, int64_t thread, const elem_t *x, const elem_t *y) {
    const int64_t channels = l->shape.K, size = out_size(l);
    double *sums = moments_of(l, norm, thread);
    for (int64_t c = 0; c < channels; c += 16) {
        __m512 first = _mm512_setzero_ps(), second = _mm512_setzero_ps();
        for (int64_t p = c; p < size; p += channels) {
            const __m512 here = load_floats(x + p);
            first = _mm512_add_ps(first, here);
            second = _mm512_fmadd_ps(here, load_floats(y + p), second);
        }
        float parts[2][16];
        _mm512_storeu_ps(parts[0], first);
        _mm512_storeu_ps(parts[1], second);
        for (int i = 0; i < 16; i++) sums[c + i] += parts[0][i], sums[channels + c + i] += parts[1][i];
    }
}

/* to = a x + b y + c, with factors (3, K): a, b and c of each channel. */
void combine(const Layer *l, const elem_t *x, const elem_t *y, const float *factors, elem_t *to) {
    const int64_t channels = l->shape.K, size = out_size(l);
    for (int64_t k = 0; k < channels; k += 16) {
        const __m512 a = _mm512_loadu_ps(factors + k), b = _mm512_loadu_ps(factors + channels + k);
        const __m512 c = _mm512_loadu_ps(factors + 2 * channels + k);
        for (int64_t p = k; p < size; p += channels)
            store_floats(to + p, 0xffff, _mm512_fmadd_ps(a, load_floats(x + p), _mm512_fmadd_ps(b, load_floats(y + p), c)));
    }
}

void add_to(elem_t *image, const elem_t *more, int64_t size) {
    for (int64_t i = 0; i < size; i += 16) store_floats(image + i, 0xffff, _mm512_add_ps(load_floats(image + i), load_floats(more + i)));
}

static double total(const Layer *l, const Norm *norm, int64_t parts, int64_t i) {
    double sum = 0;
    for (int64_t thread = 0; thread < parts; thread++) sum += moments_of(l, norm, thread)[i];
    return sum;
}

/* From the moments of out, the factors that combine in and out to the residual sum. Writes mean and variance of a batch. */
void norm_forward_factors(const Layer *l, const Norm *norm, int64_t parts) {
    const int64_t channels = l->shape.K;
    const double pixels = (double)(l->images * l->shape.P * l->shape.Q);
    for (int64_t c = 0; c < channels; c++) {
        if (l->batch_statistics) {
            const double mean = total(l, norm, parts, c) / pixels, square = total(l, norm, parts, channels + c) / pixels;
            l->mean[c] = (float)mean;
            l->variance[c] = (float)(square > mean * mean ? square - mean * mean : 0);
        }
        const float slope = (float)(l->scale[c] / sqrt(l->variance[c] + l->epsilon));
        norm->factors[c] = 1;
        norm->factors[channels + c] = slope;
        norm->factors[2 * channels + c] = l->shift[c] - slope * l->mean[c];
    }
}

/* From the moments of g, the gradient of the sum, and out: the factors that combine these two to the gradient of out,
slope (g - mean(g) - n mean(g n)), where n is the normalised out; and the gradients of scale and shift. */
void norm_backward_factors(const Layer *l, const Norm *norm, int64_t parts) {
    const int64_t channels = l->shape.K;
    const double pixels = (double)(l->images * l->shape.P * l->shape.Q);
    for (int64_t c = 0; c < channels; c++) {
        const double deviation = sqrt(l->variance[c] + l->epsilon), slope = l->scale[c] / deviation, sum = total(l, norm, parts, c);
        const double along = (total(l, norm, parts, channels + c) - l->mean[c] * sum) / deviation;
        l->shift_gradient[c] = (float)sum;
        l->scale_gradient[c] = (float)along;
        norm->factors[c] = (float)slope;
        norm->factors[channels + c] = (float)(-slope * along / pixels / deviation);
        norm->factors[2 * channels + c] = (float)(slope * (along * l->mean[c] / deviation - sum) / pixels);
    }
}

/* Image n: in and out to their residual sum. */
void residual_sum(const Layer *l, const Norm *norm, int64_t n) {
    combine(l, out_image(l, l->in, n), out_image(l, l->out, n), norm->factors, out_image(l, l->sum, n));
}
