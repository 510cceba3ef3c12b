/* The Bernoulli likelihood of one image, for all files that need it. */

#pragma once

#include <stdint.h>

/* -log p(x | logits) of an image of `size` values, in nats. Also weight * (sigmoid(logits) - x), if `gradient` is given. */
float bernoulli_image(const float *logits, const float *pixels, int64_t size, float weight, float *gradient);
