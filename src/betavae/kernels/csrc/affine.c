/* Images that affine maps make of pictures, and the gradients. Called by affine.py.

The pixel of an image in a row and a column has the value b + P(down, across), where P is the picture, interpolated
linearly between its pixels and 0 outside:

    across = m[0] column + m[1] row + m[2],    down = m[3] column + m[4] row + m[5].

Tensors are NHWC. Pictures are copied with a border of zeros, so that the four pixels around a point always exist. Most
pixels of an image lie outside of the picture; of each row only the columns that may lie inside are visited. */

#include <math.h>

#include "simd.h"
#include "workspace.h"

typedef struct { int64_t channels, picture_height, picture_width, height, width; } PictureSizes; /* height, width: of the image */

const int64_t size_of_PictureSizes = sizeof(PictureSizes);

static int64_t padded_size(const PictureSizes *s) { return (s->picture_height + 2) * (s->picture_width + 2) * s->channels; }

static float *padded_row(const PictureSizes *s, float *picture, int64_t i) {
    return picture + ((i + 1) * (s->picture_width + 2) + 1) * s->channels;
}

/* Shrinks [first, last) to the columns where slope * column + start may lie between -1 and size. */
static void clip_columns(float slope, float start, float size, int64_t *first, int64_t *last) {
    if (fabsf(slope) < 1e-6f) {
        if (!(start > -2 && start < size + 1)) *last = *first;
        return;
    }
    const float a = (-1 - start) / slope, b = (size - start) / slope;
    const float low = floorf(fminf(a, b)), picture_height = ceilf(fmaxf(a, b));
    if (low > (float)*first) *first = low < (float)*last ? (int64_t)low : *last;
    if (picture_height + 1 < (float)*last) *last = picture_height + 1 > (float)*first ? (int64_t)picture_height + 1 : *first;
}

typedef struct { int64_t at; float across, down; } Point; /* its upper left pixel in a padded picture; distances from there */

/* Whether a point lies in the padded picture, and where. */
static int locate(const PictureSizes *s, float across, float down, Point *p) {
    const float left = floorf(across), up = floorf(down);
    if (!(left >= -1 && left < (float)s->picture_width && up >= -1 && up < (float)s->picture_height)) return 0;
    *p = (Point){(((int64_t)up + 1) * (s->picture_width + 2) + (int64_t)left + 1) * s->channels, across - left, down - up};
    return 1;
}

/* One pixel of the image: background + bilinear interpolation of the four pixels around a point. */
INLINE void interpolate(int64_t channels, int64_t line, const float *picture, float x, float y, const float *background, float *pixel) {
    const int64_t c = channels;
    for (int64_t i = 0; i < c; i++) {
        const float upper = picture[i] + x * (picture[c + i] - picture[i]);
        const float lower = picture[line + i] + x * (picture[line + c + i] - picture[line + i]);
        pixel[i] = background[i] + upper + y * (lower - upper);
    }
}

/* The gradient of one pixel to those of the four pixels around its point, and of the point: along_x, along_y. */
INLINE void interpolate_backward(int64_t channels, int64_t line, const float *picture, float x, float y, const float *gradient,
                                 float *picture_gradient, float *along_x, float *along_y) {
    const int64_t c = channels;
    for (int64_t i = 0; i < c; i++) {
        const float g = gradient[i];
        const float upper = picture[c + i] - picture[i], lower = picture[line + c + i] - picture[line + i];
        *along_x += g * (upper + y * (lower - upper));
        *along_y += g * (picture[line + i] - picture[i] + x * (lower - upper));
        picture_gradient[i] += g * (1 - x) * (1 - y), picture_gradient[c + i] += g * x * (1 - y);
        picture_gradient[line + i] += g * (1 - x) * y, picture_gradient[line + c + i] += g * x * y;
    }
}

/* Visits the pixels of an image (height, width, channels) whose points lie in the padded picture. Writes the image; or, if
its gradient is given, adds to those of picture and map (6,). */
static void visit(const PictureSizes *s, float *picture, const float *m, const float *background, const float *gradient,
                  float *image, float *picture_gradient, double *map_gradient) {
    const int64_t c = s->channels, line = (s->picture_width + 2) * c;
    for (int64_t row = 0; row < s->height; row++) {
        const float across = m[1] * (float)row + m[2], down = m[4] * (float)row + m[5];
        int64_t first = 0, last = s->width;
        clip_columns(m[0], across, (float)s->picture_width, &first, &last);
        clip_columns(m[3], down, (float)s->picture_height, &first, &last);
        for (int64_t column = first; column < last; column++) {
            Point p;
            if (!locate(s, m[0] * (float)column + across, m[3] * (float)column + down, &p)) continue;
            const int64_t pixel = (row * s->width + column) * c;
            if (!gradient) {
                interpolate(c, line, picture + p.at, p.across, p.down, background, image + pixel);
                continue;
            }
            float along_x = 0, along_y = 0;
            interpolate_backward(c, line, picture + p.at, p.across, p.down, gradient + pixel, picture_gradient + p.at, &along_x,
                                 &along_y);
            const double position[3] = {(double)column, (double)row, 1};
            for (int i = 0; i < 3; i++) map_gradient[i] += along_x * position[i], map_gradient[3 + i] += along_y * position[i];
        }
    }
}

/* (picture_height, picture_width, channels) -> the same with a border of zeros. */
static void copy_with_border(const PictureSizes *s, const float *picture, float *padded) {
    memset(padded, 0, (size_t)padded_size(s) * sizeof(float));
    const int64_t line = s->picture_width * s->channels;
    for (int64_t i = 0; i < s->picture_height; i++) memcpy(padded_row(s, padded, i), picture + i * line, (size_t)line * sizeof(float));
}

/* images (count, height, width, channels) from pictures and maps (count, 6). Returns 0, or 1 where memory ran out. */
int place_pictures(const PictureSizes *s, int64_t count, int64_t threads, const float *pictures, const float *maps,
                   const float *background, float *images) {
    const int64_t size = s->height * s->width * s->channels;
    int failed = 0;
#pragma omp parallel for num_threads((int)threads) schedule(static)
    for (int64_t n = 0; n < count; n++) {
        float *const padded = workspace(OWN, (size_t)padded_size(s) * sizeof(float));
        if (!padded) {
#pragma omp atomic write
            failed = 1;
            continue;
        }
        const float *m = maps + 6 * n;
        const float valid = 0 * (m[0] + m[1] + m[2] + m[3] + m[4] + m[5]); /* NaN stays NaN */
        for (int64_t i = 0; i < size; i += s->channels)
            for (int64_t c = 0; c < s->channels; c++) images[n * size + i + c] = background[c] + valid;
        copy_with_border(s, pictures + n * s->picture_height * s->picture_width * s->channels, padded);
        visit(s, padded, m, background, NULL, images + n * size, NULL, NULL);
    }
    return failed;
}

/* Gradients of pictures, maps and, for each image, background, from those of images. Returns 0, or 1 where memory ran out. */
int place_pictures_backward(const PictureSizes *s, int64_t count, int64_t threads, const float *pictures, const float *maps,
                            const float *gradient, float *picture_gradients, float *map_gradients, float *background_gradients) {
    const int64_t size = s->height * s->width * s->channels, line = s->picture_width * s->channels;
    int failed = 0;
#pragma omp parallel for num_threads((int)threads) schedule(static)
    for (int64_t n = 0; n < count; n++) {
        float *const padded = workspace(OWN, (size_t)(2 * padded_size(s)) * sizeof(float));
        float *const padded_gradient = padded + padded_size(s);
        if (!padded) {
#pragma omp atomic write
            failed = 1;
            continue;
        }
        double map_gradient[6] = {0};
        copy_with_border(s, pictures + n * s->picture_height * line, padded);
        memset(padded_gradient, 0, (size_t)padded_size(s) * sizeof(float));
        visit(s, padded, maps + 6 * n, NULL, gradient + n * size, NULL, padded_gradient, map_gradient);
        for (int64_t i = 0; i < s->picture_height; i++)
            memcpy(picture_gradients + (n * s->picture_height + i) * line, padded_row(s, padded_gradient, i),
                   (size_t)line * sizeof(float));
        for (int i = 0; i < 6; i++) map_gradients[6 * n + i] = (float)map_gradient[i];
        for (int64_t c = 0; c < s->channels; c++) {
            double sum = 0;
            for (int64_t i = c; i < size; i += s->channels) sum += gradient[n * size + i];
            background_gradients[n * s->channels + c] = (float)sum;
        }
    }
    return failed;
}
