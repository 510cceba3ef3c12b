/* Images that affine maps make of pictures, and the gradients. The interface is affine.py.

The pixel of an image in a row and a column has the value b + P(down, across), where P is the picture, interpolated
linearly between its pixels and 0 outside:

    across = m[0] column + m[1] row + m[2],    down = m[3] column + m[4] row + m[5].

Values are NHWC. Pictures are copied with a border of zeros, so that the four pixels around a point are always there. Most
pixels of an image lie outside of the picture; of each row only the columns between are visited. */

#include <math.h>

#include "tiles.h"

typedef struct { int64_t channels, high, wide, height, width; } PictureSizes;

const int64_t size_of_PictureSizes = sizeof(PictureSizes); /* of the picture: high, wide; of the image: the others */

static int64_t bordered(const PictureSizes *s) { return (s->high + 2) * (s->wide + 2) * s->channels; }

static float *row_of(const PictureSizes *s, float *picture, int64_t i) { return picture + ((i + 1) * (s->wide + 2) + 1) * s->channels; }

/* Narrows [first, last) to the columns where slope * column + start may lie between -1 and size. */
static void narrow(float slope, float start, float size, int64_t *first, int64_t *last) {
    if (fabsf(slope) < 1e-6f) {
        if (!(start > -2 && start < size + 1)) *last = *first;
        return;
    }
    const float a = (-1 - start) / slope, b = (size - start) / slope;
    const float low = floorf(fminf(a, b)), high = ceilf(fmaxf(a, b));
    if (low > (float)*first) *first = low < (float)*last ? (int64_t)low : *last;
    if (high + 1 < (float)*last) *last = high + 1 > (float)*first ? (int64_t)high + 1 : *first;
}

typedef struct { int64_t at; float across, down; } Point; /* its upper left pixel in a bordered picture; how far it lies from there */

static int find(const PictureSizes *s, float across, float down, Point *p) {
    const float left = floorf(across), up = floorf(down);
    if (!(left >= -1 && left < (float)s->wide && up >= -1 && up < (float)s->high)) return 0;
    *p = (Point){(((int64_t)up + 1) * (s->wide + 2) + (int64_t)left + 1) * s->channels, across - left, down - up};
    return 1;
}

/* An image, or where `towards` is given, the gradients of its background, map and picture. */
static void visit(const PictureSizes *s, float *picture, const float *m, const float *background, const float *towards, float *image,
                  float *picture_gradient, double *map_gradient) {
    const int64_t c = s->channels, line = (s->wide + 2) * c;
    for (int64_t row = 0; row < s->height; row++) {
        const float across = m[1] * (float)row + m[2], down = m[4] * (float)row + m[5];
        int64_t first = 0, last = s->width;
        narrow(m[0], across, (float)s->wide, &first, &last);
        narrow(m[3], down, (float)s->high, &first, &last);
        for (int64_t column = first; column < last; column++) {
            Point p;
            if (!find(s, m[0] * (float)column + across, m[3] * (float)column + down, &p)) continue;
            const float *here = picture + p.at;
            const int64_t pixel = (row * s->width + column) * c;
            const float x = p.across, y = p.down;
            if (!towards) {
                for (int64_t i = 0; i < c; i++) {
                    const float upper = here[i] + x * (here[c + i] - here[i]);
                    const float lower = here[line + i] + x * (here[line + c + i] - here[line + i]);
                    image[pixel + i] = background[i] + upper + y * (lower - upper);
                }
                continue;
            }
            float *back = picture_gradient + p.at, along_x = 0, along_y = 0;
            for (int64_t i = 0; i < c; i++) {
                const float g = towards[pixel + i];
                const float upper = here[c + i] - here[i], lower = here[line + c + i] - here[line + i];
                along_x += g * (upper + y * (lower - upper));
                along_y += g * (here[line + i] - here[i] + x * (lower - upper));
                back[i] += g * (1 - x) * (1 - y), back[c + i] += g * x * (1 - y);
                back[line + i] += g * (1 - x) * y, back[line + c + i] += g * x * y;
            }
            const double place[3] = {(double)column, (double)row, 1};
            for (int i = 0; i < 3; i++) map_gradient[i] += along_x * place[i], map_gradient[3 + i] += along_y * place[i];
        }
    }
}

static void add_border(const PictureSizes *s, const float *picture, float *padded) {
    memset(padded, 0, (size_t)bordered(s) * sizeof(float));
    const int64_t line = s->wide * s->channels;
    for (int64_t i = 0; i < s->high; i++) memcpy(row_of(s, padded, i), picture + i * line, (size_t)line * sizeof(float));
}

/* Images from pictures and maps. Returns 0, or 1 where memory ran out. */
int place_pictures(const PictureSizes *s, int64_t count, int64_t threads, const float *pictures, const float *maps,
                   const float *background, float *images) {
    const int64_t size = s->height * s->width * s->channels;
    int failed = 0;
#pragma omp parallel for num_threads((int)threads) schedule(static)
    for (int64_t n = 0; n < count; n++) {
        float *const padded = memory_of(OWN, (size_t)bordered(s) * sizeof(float));
        if (!padded) {
#pragma omp atomic write
            failed = 1;
            continue;
        }
        const float *m = maps + 6 * n;
        const float valid = 0 * (m[0] + m[1] + m[2] + m[3] + m[4] + m[5]); /* NaN stays NaN */
        for (int64_t i = 0; i < size; i += s->channels)
            for (int64_t c = 0; c < s->channels; c++) images[n * size + i + c] = background[c] + valid;
        add_border(s, pictures + n * s->high * s->wide * s->channels, padded);
        visit(s, padded, m, background, NULL, images + n * size, NULL, NULL);
    }
    return failed;
}

/* Gradients of pictures, maps and, for each image, background, from those of images. Returns 0, or 1 where memory ran out. */
int place_pictures_backward(const PictureSizes *s, int64_t count, int64_t threads, const float *pictures, const float *maps,
                            const float *towards, float *picture_gradients, float *map_gradients, float *background_gradients) {
    const int64_t size = s->height * s->width * s->channels, line = s->wide * s->channels;
    int failed = 0;
#pragma omp parallel for num_threads((int)threads) schedule(static)
    for (int64_t n = 0; n < count; n++) {
        float *const padded = memory_of(OWN, (size_t)(2 * bordered(s)) * sizeof(float)), *const back = padded + bordered(s);
        if (!padded) {
#pragma omp atomic write
            failed = 1;
            continue;
        }
        double map_gradient[6] = {0};
        add_border(s, pictures + n * s->high * line, padded);
        memset(back, 0, (size_t)bordered(s) * sizeof(float));
        visit(s, padded, maps + 6 * n, NULL, towards + n * size, NULL, back, map_gradient);
        for (int64_t i = 0; i < s->high; i++)
            memcpy(picture_gradients + (n * s->high + i) * line, row_of(s, back, i), (size_t)line * sizeof(float));
        for (int i = 0; i < 6; i++) map_gradients[6 * n + i] = (float)map_gradient[i];
        for (int64_t c = 0; c < s->channels; c++) {
            double sum = 0;
            for (int64_t i = c; i < size; i += s->channels) sum += towards[n * size + i];
            background_gradients[n * s->channels + c] = (float)sum;
        }
    }
    return failed;
}
