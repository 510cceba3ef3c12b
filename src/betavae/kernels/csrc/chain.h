/* A call: a chain of layers, its stages, and what threads share.

Images are small enough for a core's L2 cache, so a thread takes one image through all layers that it can before it takes
the next. Forward that is one image at a time, backward GROUP images, one layer after another. A stage is a run of such
layers. It ends where all images have to come before one can go on:

    - between convolutions and linear layers, for an "image" of a linear layer is 32 rows of the batch;
    - behind a residual layer, which normalises by moments of the whole batch.

Stages end at a barrier: that of `omp for`. */

#pragma once

#include "layer.h"
#include "norm.h"

typedef struct { /* a thread's workspace, in elements from its start; up to `cleared` it has borders of zeros */
    int64_t padded_x[MAX_LAYERS], padded_y[MAX_LAYERS], cleared;
    int64_t a, b;                    /* operands of wgrad */
    int64_t gradients[2];            /* of a group, from one layer to the next */
    int64_t norm_gradient;           /* of what a norm normalises */
    int64_t outputs[MAX_LAYERS];     /* of the last stage, if only errors are wanted */
    int64_t error_gradient, size;
} Workspace;

typedef struct { /* weights as tiles; units of layer i are starts[i] .. starts[i + 1] - 1 */
    elem_t *tiles[MAX_LAYERS];
    int which[MAX_LAYERS]; /* FPROP, DGRAD, DGRAD_PIXELS */
    int64_t starts[MAX_LAYERS + 1];
} PackedWeights;

typedef struct {
    const Layer *layers;
    int64_t count, threads;
    Norm norms[MAX_LAYERS];
    Workspace space;
} Call;

Workspace plan_workspace(const Layer *layers, int64_t count, int backward, int64_t kept_from);
elem_t *thread_workspace(const Call *call);

size_t packed_bytes_of(const Layer *layers, int64_t count);
PackedWeights plan_packing(const Layer *layers, int64_t count, int forward, int64_t first, char *memory);
void pack_unit(const PackedWeights *p, const Layer *layers, int64_t unit);

int64_t stage_end(const Layer *layers, int64_t count, int64_t first);
int64_t stage_start(const Layer *layers, int64_t end);

/* Images are split in parts, one a thread; with fewer images than threads some threads have none. */
static inline int64_t parts_of(const Layer *l, int64_t threads) { return l->images < threads ? l->images : threads; }

static inline void partition(int64_t images, int64_t parts, int64_t i, int64_t *first, int64_t *last) {
    *first = images * i / parts, *last = images * (i + 1) / parts;
}

void forward_image(const Layer *layers, int64_t first, int64_t end, int64_t n, const PackedWeights *packed, const Workspace *space,
                   elem_t *memory);
void forward_stages(const Call *call, int64_t stop, const PackedWeights *packed, elem_t *memory);
