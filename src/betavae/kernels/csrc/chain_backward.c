/* The backward pass of a chain, also together with the Bernoulli errors of its outputs. Called by chain.py. */

#include "bernoulli.h"
#include "chain.h"
#include "layout.h"
#include "tiles.h"
#include "workspace.h"

typedef struct { /* the images that the outputs are logits for */
    const float *pixels;
    float weight; /* of each error in the loss whose gradient is computed */
    float *errors;
} Target;

typedef struct {
    Call call;
    PackedWeights packed, packed_forward;
    const Target *target; /* NULL: `gradient`, that of the outputs, is given */
    const void *gradient;
    elem_t *input_gradient;              /* NULL if it is not wanted */
    elem_t *between;                     /* gradients of the inputs of stages: stage `first` from between_at[first] on */
    int64_t between_at[MAX_LAYERS];
    float *sums;                         /* (threads, sums_size): sums of layer i from sums_at[i] on */
    int64_t sums_size, sums_at[MAX_LAYERS];
} Backward;

/* Where a thread sums the gradient of a layer's weights. The first thread sums in the gradient itself, if the sums have its
layout. */
static float *weight_sums(const Backward *b, int64_t i, int64_t thread) {
    const Layer *l = b->call.layers + i;
    return thread || l->shape.few_channels ? b->sums + thread * b->sums_size + b->sums_at[i] : l->weight_gradient;
}

static float *bias_sums(const Backward *b, int64_t i, int64_t thread) {
    const Layer *l = b->call.layers + i;
    return thread ? b->sums + thread * b->sums_size + b->sums_at[i] + wgrad_size(&l->shape) : l->bias_gradient;
}

/* Images n .. n + group - 1 forward through the last stage, which begins at `first`, by copies `own` of its layers that keep
their outputs in the workspace; their errors. Returns the gradient of the outputs. */
static const float *bernoulli_group(const Backward *b, Layer *own, int64_t first, int64_t n, int64_t group, elem_t *memory) {
    const Call *call = &b->call;
    const Layer *layers = call->layers;
    const Target *target = b->target;
    const int64_t size = out_size(layers + call->count - 1);
    float *gradient = (float *)(memory + call->space.error_gradient);
    for (int64_t i = first; i < call->count; i++) {
        own[i] = layers[i];
        own[i].in = i == first ? input_at(layers + i, layers[i].in, n) : own[i - 1].out;
        own[i].out = memory + call->space.outputs[i];
    }
    for (int64_t i = 0; i < group; i++) {
        if (first && layers[first - 1].sum) residual_sum(layers + first - 1, call->norms + first - 1, n + i);
        forward_image(own, first, call->count, i, &b->packed_forward, &call->space, memory);
        target->errors[n + i] = bernoulli_image((float *)own[call->count - 1].out + i * size, target->pixels + (n + i) * size, size,
                                                target->weight, gradient + i * size);
    }
    return gradient;
}

/* A group backward through layer i, whose images are those from `n` on in its tensors. `thread` adds to its sums. */
static void backward_layer(const Backward *b, const Layer *layer, int64_t i, int64_t thread, int64_t n, int64_t group,
                           const void *gradient, elem_t *in_gradient, int64_t fresh, elem_t *memory) {
    const Workspace *space = &b->call.space;
    const elem_t *of_sum = layer->sum ? gradient : NULL;
    for (int64_t k = 0; of_sum && k < group; k++)
        combine(layer, out_image(layer, of_sum, k), out_image(layer, layer->out, n + k), b->call.norms[i].factors,
                out_image(layer, memory + space->norm_gradient, k));
    const Buffers buffers = {memory + space->padded_x[i], memory + space->padded_y[i], memory + space->a, memory + space->b};
    layer_backward(layer, n, group, of_sum ? memory + space->norm_gradient : gradient, in_gradient, b->packed.tiles[i], fresh,
                   weight_sums(b, i, thread), bias_sums(b, i, thread), &buffers);
    if (of_sum && in_gradient) add_to(in_gradient, of_sum, group * in_size(layer));
}

/* Images n .. n + group - 1 backward through a stage, from layer end - 1 to `first`. */
static void backward_group(const Backward *b, int64_t first, int64_t end, int64_t thread, int64_t n, int64_t group, int64_t fresh,
                           elem_t *memory) {
    const Layer *layers = b->call.layers, *start = layers + first;
    Layer own[MAX_LAYERS];
    const int last = end == b->call.count, errors = b->target && last;
    elem_t *handed = b->between + (first ? b->between_at[first] + n * in_size(start) : 0), *in_gradient = NULL;
    const void *gradient = errors ? bernoulli_group(b, own, first, n, group, memory)
                                  : output_at(layers + end - 1, last ? b->gradient : b->between + b->between_at[end], n);
    for (int64_t i = end - 1; i >= first; i--, gradient = in_gradient) {
        const Layer *layer = errors ? own + i : layers + i;
        if (i > first || start->table_rows) in_gradient = memory + b->call.space.gradients[i % 2];
        else if (first) in_gradient = handed;
        else in_gradient = b->input_gradient ? input_at(layer, b->input_gradient, n) : NULL;
        backward_layer(b, layer, i, thread, errors ? 0 : n, group, gradient, in_gradient, fresh, memory);
    }
    if (start->table_rows) transpose_tables(in_gradient, start->table_columns, start->table_rows, group * in_size(start), handed);
    const Layer *before = first ? start - 1 : NULL;
    for (int64_t k = 0; before && before->sum && k < group; k++)
        add_moments(before, b->call.norms + first - 1, thread, out_image(before, in_gradient, k), out_image(before, before->out, n + k));
}

/* Moments of the gradient of the chain's output, which a norm at its end needs. All threads call it together. */
static void output_moments(const Backward *b, int64_t parts) {
    const Layer *last = b->call.layers + b->call.count - 1;
    const Norm *norm = b->call.norms + b->call.count - 1;
#pragma omp for schedule(static, 1)
    for (int64_t thread = 0; thread < parts; thread++) {
        int64_t from, to;
        partition(last->images, parts, thread, &from, &to);
        clear_moments(last, norm, thread);
        for (int64_t n = from; n < to; n++)
            add_moments(last, norm, thread, out_image(last, b->gradient, n), out_image(last, last->out, n));
    }
}

/* All images backward through a stage. All threads call it together. */
static void backward_stage(const Backward *b, int64_t first, int64_t end, elem_t *memory) {
    const Layer *layers = b->call.layers, *last = layers + end - 1;
    const int64_t parts = parts_of(last, b->call.threads);
    if (last->sum) {
        if (end == b->call.count) output_moments(b, parts);
#pragma omp single
        norm_backward_factors(last, b->call.norms + end - 1, parts);
    }
#pragma omp for schedule(static, 1)
    for (int64_t thread = 0; thread < parts; thread++) {
        for (int64_t i = first; i < end; i++) memset(bias_sums(b, i, thread), 0, (size_t)num_biases(layers + i) * 4);
        if (first && layers[first - 1].sum) clear_moments(layers + first - 1, b->call.norms + first - 1, thread);
        int64_t from, to;
        partition(last->images, parts, thread, &from, &to);
        for (int64_t n = from; memory && n < to; n += GROUP)
            backward_group(b, first, end, thread, n, to - n < GROUP ? to - n : GROUP, n == from, memory);
    }
}

/* The sums of all threads, into the gradients of a layer's weight (K, kernel, kernel, C) and bias. Those of pixels are
transposed, (im2col_rows, K). All threads call it together. */
static void reduce_sums(const Backward *b, int64_t i) {
    const Layer *l = b->call.layers + i;
    const Shape *s = &l->shape;
    const int64_t values = s->kernel * s->kernel * s->C, biases = num_biases(l), parts = parts_of(l, b->call.threads);
#pragma omp for schedule(static) nowait
    for (int64_t k = 0; k < s->K; k++)
        for (int64_t thread = !s->few_channels; thread < parts; thread++) {
            const float *more = weight_sums(b, i, thread) + (s->few_channels ? k : k * values);
            float *to = l->weight_gradient + k * values;
            if (!thread) for (int64_t v = 0; v < values; v++) to[v] = more[v * s->K];
            else if (s->few_channels) for (int64_t v = 0; v < values; v++) to[v] += more[v * s->K];
            else for (int64_t v = 0; v < values; v++) to[v] += more[v];
        }
#pragma omp for schedule(static) nowait
    for (int64_t c = 0; c < biases; c++)
        for (int64_t thread = 1; thread < parts; thread++) l->bias_gradient[c] += bias_sums(b, i, thread)[c];
}

/* Lays out what threads share; from layer `kept_from` on outputs stay in workspaces. Returns 0, or 1 where memory ran out. */
static int prepare(Backward *b, const Layer *layers, int64_t count, int64_t threads, int64_t kept_from) {
    int64_t between_size = 0;
    for (int64_t i = 0; i < count; i++) {
        b->sums_at[i] = b->sums_size;
        b->sums_size += (wgrad_size(&layers[i].shape) + num_biases(layers + i) + 15) / 16 * 16;
        b->between_at[i] = between_size;
        if (i && (layers[i].table_rows || layers[i - 1].sum)) between_size += layers[i].images * in_size(layers + i);
    }
    const size_t tiles = packed_bytes_of(layers, count), all_tiles = (b->target ? 2 : 1) * tiles;
    const size_t sums = (size_t)(threads * b->sums_size * 4), between = cache_lines((size_t)between_size * sizeof(elem_t));
    char *shared = workspace(SHARED, all_tiles + sums + between + allocate_norms(layers, count, threads, NULL, NULL));
    if (!shared) return 1;
    b->packed = plan_packing(layers, count, 0, !b->input_gradient, shared);
    b->packed_forward = plan_packing(layers, b->target ? count : 0, 1, 0, shared + tiles);
    b->sums = (float *)(shared + all_tiles);
    b->between = (elem_t *)(shared + all_tiles + sums);
    b->call = (Call){.layers = layers, .count = count, .threads = threads, .space = plan_workspace(layers, count, 1, kept_from)};
    allocate_norms(layers, count, threads, shared + all_tiles + sums + between, b->call.norms);
    return 0;
}

/* The gradients of all weights and biases, and of the chain's input. Returns 0, or 1 where memory ran out. */
static int run_backward(Backward *b, const Layer *layers, int64_t count, int64_t threads) {
    const int64_t kept_from = b->target ? stage_start(layers, count) : count;
    if (prepare(b, layers, count, threads, kept_from)) return 1;
    const int64_t units = b->packed.starts[count], forward_units = b->target ? b->packed_forward.starts[count] : 0;
    int failed = 0;
#pragma omp parallel num_threads((int)threads) reduction(| : failed)
    {
        elem_t *memory = thread_workspace(&b->call);
        failed = !memory;
#pragma omp for schedule(static)
        for (int64_t unit = 0; unit < units + forward_units; unit++)
            if (unit < units) pack_unit(&b->packed, layers, unit);
            else pack_unit(&b->packed_forward, layers, unit - units);
        forward_stages(&b->call, b->target ? kept_from : 0, &b->packed_forward, memory);
        for (int64_t end = count, first; end > 0; end = first) {
            first = stage_start(layers, end);
            backward_stage(b, first, end, memory);
        }
        release_tiles();
        for (int64_t i = 0; i < count; i++) reduce_sums(b, i);
    }
    return failed;
}

/* Backward from the gradient of the chain's output. */
int chain_backward(const Layer *layers, int64_t count, int64_t threads, const void *gradient, elem_t *input_gradient) {
    Backward b = {.gradient = gradient, .input_gradient = input_gradient};
    return run_backward(&b, layers, count, threads);
}

/* The Bernoulli errors (images,) of pixels given the chain's outputs as logits, and the gradients of `weight` times their
sum. A group of images goes forward and backward through the last stage before the next one: its outputs are never
written to memory. */
int chain_bernoulli(const Layer *layers, int64_t count, int64_t threads, const float *pixels, float weight, float *errors,
                    elem_t *input_gradient) {
    const Target target = {pixels, weight, errors};
    Backward b = {.target = &target, .input_gradient = input_gradient};
    return run_backward(&b, layers, count, threads);
}
