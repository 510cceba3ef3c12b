/* Plans of a call, and the forward pass of a chain. See chain.h. Called by chain.py. */

#include "chain.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "abi.h"
#include "layout.h"
#include "tiles.h"
#include "workspace.h"

const int64_t abi_version = ABI_VERSION, size_of_Shape = sizeof(Shape), size_of_Layer = sizeof(Layer);

const char *hardware(void) { /* that multiplies; NULL where it may not be used */
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

/* ---- weights --------------------------------------------------------------------------------------------------------*/

static size_t tile_bytes(const Layer *l) { return l->small_linear ? 0 : cache_lines(packed_bytes(&l->shape)); }

size_t packed_bytes_of(const Layer *layers, int64_t count) {
    size_t size = 0;
    for (int64_t i = 0; i < count; i++) size += tile_bytes(layers + i);
    return size;
}

static int packing_of(const Layer *l, int forward) {
    return l->transposed != forward ? FPROP : l->shape.few_channels ? DGRAD_PIXELS : DGRAD;
}

/* Layers before `first` are not packed. */
PackedWeights plan_packing(const Layer *layers, int64_t count, int forward, int64_t first, char *memory) {
    PackedWeights p = {.starts = {0}};
    for (int64_t i = 0; i < count; memory += tile_bytes(layers + i++)) {
        p.tiles[i] = (elem_t *)memory;
        p.which[i] = packing_of(layers + i, forward);
        p.starts[i + 1] = p.starts[i] + (i < first || layers[i].small_linear ? 0 : pack_units(&layers[i].shape, p.which[i]));
    }
    return p;
}

void pack_unit(const PackedWeights *p, const Layer *layers, int64_t unit) {
    int64_t i = 0;
    while (unit >= p->starts[i + 1]) i++;
    pack_weights(&layers[i].shape, p->which[i], layers[i].weight, unit - p->starts[i], p->tiles[i]);
}

/* ---- workspace ------------------------------------------------------------------------------------------------------*/

static int64_t reserve(Workspace *space, int64_t size) {
    const int64_t start = space->size;
    space->size += size;
    return start;
}

static void grow(int64_t *most, int64_t size) { *most = size > *most ? size : *most; }

/* For one image forward, or a group backward. From layer `kept_from` on outputs stay here, with the gradient of the error. */
Workspace plan_workspace(const Layer *layers, int64_t count, int backward, int64_t kept_from) {
    Workspace space = {.size = 0};
    const int64_t group = backward ? GROUP : 1;
    int64_t a = 0, b = 0, gradient = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
        const Layer *l = layers + i;
        const Shape *s = &l->shape;
        if (i) grow(&gradient, group * in_size(l));
        if (l->small_linear) continue;
        space.padded_x[i] = reserve(&space, backward || !l->transposed ? group * padded_x(s).size : 0);
        space.padded_y[i] = reserve(&space, backward || l->transposed ? (padded_y_size(s) + 31) / 32 * 32 : 0);
        grow(&a, group * (s->few_channels ? im2col_rows(s) : s->K) * wgrad_depth(s));
        grow(&b, group * (s->P + s->kernel) * s->Q * (s->few_channels ? s->K : s->C));
        if (l->sum) grow(&norm, group * out_size(l));
    }
    space.cleared = space.size;
    if (!backward) return space;
    space.a = reserve(&space, a);
    space.b = reserve(&space, b);
    for (int i = 0; i < 2; i++) space.gradients[i] = reserve(&space, gradient);
    space.norm_gradient = reserve(&space, norm);
    for (int64_t i = kept_from; i < count; i++)
        space.outputs[i] = reserve(&space, group * out_bytes(layers + i) / (int64_t)sizeof(elem_t));
    space.error_gradient = reserve(&space, kept_from < count ? group * out_bytes(layers + count - 1) / (int64_t)sizeof(elem_t) : 0);
    return space;
}

/* The calling thread's, its borders cleared; NULL where memory ran out. */
elem_t *thread_workspace(const Call *call) {
    elem_t *memory = workspace(OWN, (size_t)call->space.size * sizeof(elem_t));
    if (memory) memset(memory, 0, (size_t)call->space.cleared * sizeof(elem_t));
    return memory;
}

/* ---- stages ---------------------------------------------------------------------------------------------------------*/

int64_t stage_end(const Layer *layers, int64_t count, int64_t first) {
    int64_t end = first + 1;
    while (end < count && !layers[end].table_rows && !layers[end - 1].sum) end++;
    return end;
}

int64_t stage_start(const Layer *layers, int64_t end) {
    int64_t first = end - 1;
    while (first && !layers[first].table_rows && !layers[first - 1].sum) first--;
    return first;
}

/* Image n through layers first .. end - 1. */
void forward_image(const Layer *layers, int64_t first, int64_t end, int64_t n, const PackedWeights *packed, const Workspace *space,
                   elem_t *memory) {
    for (int64_t i = first; i < end; i++)
        layer_forward(layers + i, n, packed->tiles[i], memory + (layers[i].transposed ? space->padded_y : space->padded_x)[i]);
}

/* A thread's images through a stage, and to where the next stage reads them. */
static void forward_part(const Call *call, int64_t first, int64_t end, int64_t thread, int64_t parts, const PackedWeights *packed,
                         elem_t *memory) {
    const Layer *layers = call->layers, *last = layers + end - 1;
    const Layer *before = first ? layers + first - 1 : NULL, *next = end < call->count ? last + 1 : NULL;
    const Norm *norm = call->norms + end - 1;
    int64_t from, to;
    partition(layers[first].images, parts, thread, &from, &to);
    if (last->sum) clear_moments(last, norm, thread);
    for (int64_t n = from; memory && n < to; n++) {
        if (before && before->sum) residual_sum(before, call->norms + first - 1, n);
        forward_image(layers, first, end, n, packed, &call->space, memory);
        if (last->sum && last->batch_statistics)
            add_moments(last, norm, thread, out_image(last, last->out, n), out_image(last, last->out, n));
        if (next && next->table_rows)
            transpose_tables(out_image(last, last->out, n), next->table_rows, next->table_columns, out_size(last),
                             out_image(last, next->in, n));
    }
}

/* All images through the layers before `stop`, which begins a stage. All threads of a team call it together. */
void forward_stages(const Call *call, int64_t stop, const PackedWeights *packed, elem_t *memory) {
    const Layer *layers = call->layers;
    for (int64_t first = 0, end; first < stop; first = end) {
        end = stage_end(layers, call->count, first);
        const int64_t images = layers[first].images, parts = parts_of(layers + first, call->threads);
        const Layer *last = layers + end - 1;
#pragma omp for schedule(static, 1)
        for (int64_t thread = 0; thread < parts; thread++) forward_part(call, first, end, thread, parts, packed, memory);
        if (!last->sum) continue;
#pragma omp single
        norm_forward_factors(last, call->norms + end - 1, parts);
        if (end < call->count) continue;
#pragma omp for schedule(static)
        for (int64_t n = 0; n < images; n++) residual_sum(last, call->norms + end - 1, n);
    }
}

/* Layers one after another. Returns 0, or 1 where memory ran out.

A team always has `threads` threads, even with fewer images: a smaller one would end the threads of others. */
int chain_forward(const Layer *layers, int64_t count, int64_t threads) {
    Call call = {.layers = layers, .count = count, .threads = threads, .space = plan_workspace(layers, count, 0, count)};
    const size_t tiles = packed_bytes_of(layers, count);
    char *shared = workspace(SHARED, tiles + allocate_norms(layers, count, threads, NULL, NULL));
    if (!shared) return 1;
    const PackedWeights packed = plan_packing(layers, count, 1, 0, shared);
    allocate_norms(layers, count, threads, shared + tiles, call.norms);
    int failed = 0;
#pragma omp parallel num_threads((int)threads) reduction(| : failed)
    {
        elem_t *memory = thread_workspace(&call);
        failed = !memory;
#pragma omp for schedule(static)
        for (int64_t unit = 0; unit < packed.starts[count]; unit++) pack_unit(&packed, layers, unit);
        forward_stages(&call, count, &packed, memory);
        release_tiles();
    }
    return failed;
}
