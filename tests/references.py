"""The objectives in plain numpy loops, written from the papers' equations."""

import numpy as np


def bernoulli_error(logits, images):
    """-Σ x log p + (1 - x) log(1 - p) over pixels (Kingma & Welling 2014, appendix C.1), p = 1 / (1 + exp(-logit))."""
    p = 1 / (1 + np.exp(-logits))
    return -(images * np.log(p) + (1 - images) * np.log(1 - p)).sum((1, 2, 3))


def rate(mean, log_var):
    """-½ Σ (1 + log σ² - μ² - σ²) over latents (Kingma & Welling 2014, appendix B)."""
    return -0.5 * (1 + log_var - mean**2 - np.exp(log_var)).sum(1)


def log_normal(z, mean, log_var):
    return -0.5 * np.log(2 * np.pi) - 0.5 * log_var - (z - mean) ** 2 / (2 * np.exp(log_var))


def weighted_sampling(z, mean, log_var):
    """log q(z_i), Σ_d log q(z_id) by minibatch-weighted sampling (Chen et al. 2018, eq. S3), N being 1."""
    count, latents = z.shape
    joint, product = np.zeros(count), np.zeros(count)
    for i in range(count):
        density = np.array([np.exp(log_normal(z[i], mean[j], log_var[j])) for j in range(count)])
        joint[i] = np.log(density.prod(1).sum() / count)
        product[i] = sum(np.log(density[:, d].sum() / count) for d in range(latents))
    return joint, product


def stratified_sampling(z, mean, log_var, images):
    """log q(z_i), Σ_d log q(z_id) by minibatch-stratified sampling (Chen et al. 2018, appendix C.2) of N images."""
    count, latents = z.shape
    others = count - 1
    joint, product = np.zeros(count), np.zeros(count)
    for i in range(count):
        weights = np.array([1 / others] * count)
        weights[i] = 1 / images
        weights[(i + 1) % count] = (images - others) / (images * others)
        density = np.array([np.exp(log_normal(z[i], mean[j], log_var[j])) for j in range(count)])
        joint[i] = np.log((weights * density.prod(1)).sum())
        product[i] = sum(np.log((weights * density[:, d]).sum()) for d in range(latents))
    return joint, product


def mean_discrepancy(one, other, kernel):
    """MMD² without bias (Gretton et al. 2012, lemma 6)."""

    def within(sample):
        pairs = [(i, j) for i in range(len(sample)) for j in range(len(sample)) if i != j]
        return np.mean([kernel(((sample[i] - sample[j]) ** 2).sum()) for i, j in pairs])

    across = np.mean([kernel(((a - b) ** 2).sum()) for a in one for b in other])
    return within(one) + within(other) - 2 * across


def hausdorff(latents, pairs):
    """Squared Hausdorff distance of the product of two latents' supports from their support, summed over pairs."""
    total = 0.0
    for a, b in pairs:
        corners = [(x, y) for x in latents[:, a] for y in latents[:, b]]
        total += max(min((x - u) ** 2 + (y - v) ** 2 for u, v in latents[:, [a, b]]) for x, y in corners)
    return total
