"""InfoMEC: modularity, explicitness and compactness from normalised mutual information."""

import numpy as np

from betavae.metrics.information import entropy
from betavae.metrics.inputs import check_classes, check_tables, draw_rows, standard_deviation
from betavae.metrics.logistic import Logistic
from betavae.metrics.undefined import warn_undefined


def infomec(
    codes: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    num_train: int = 10_000,
    num_test: int = 5_000,
    num_neighbours: int = 10,
    with_replacement: bool = False,
) -> dict[str, float]:
    """InfoM, InfoE and InfoC of continuous codes.

    With n[d, k] = I(z_d; y_k) / H(y_k), S factors and A codes kept:

    - InfoM, modularity: (mean over codes of max_k n / sum_k n - 1/S) / (1 - 1/S)
    - InfoC, compactness: (mean over factors of max_d n / sum_d n - 1/A) / (1 - 1/A)
    - InfoE, explicitness: mean over factors of 1 - CE / CE_0, the cross-entropy of an unpenalised logistic regression
      on all codes (classes balanced) over that of one that sees no code

    Information is estimated from distances to the 10th neighbour, after noise of 1e-7 standard deviations, which tells
    equal codes apart (the authors' estimator does the same; without it, codes of few values would seem to tell
    nothing). Two rules are in use to drop dead codes: those whose
    range is below 1/20 of the largest one (``infom``, ``infoc``; the authors' later code) or below 1/8
    (``infom_prune8``, ``infoc_prune8``; their earlier code). The authors score InfoE on the very rows of the fit; that
    is ``infoe_train``, while ``infoe`` uses held-out rows.

    Source:
        Disentanglement via Latent Quantization (Hsu, Dorrell, Whittington, Wu & Finn, 2023), section 4.
        https://arxiv.org/abs/2305.18378
        Mutual Information between Discrete and Continuous Data Sets (Ross, 2014), equation 2.
        https://doi.org/10.1371/journal.pone.0087357

    Args:
        codes: (N, D) codes.
        factors: (N, K) integer factors.
        seed: seed of the rows drawn.
        num_train: rows that information and classifiers are fitted to.
        num_test: rows that ``infoe`` is taken on.
        num_neighbours: neighbours of the information estimate.
        with_replacement: draw rows with replacement.

    Returns:
        ``infom``, ``infoc``, ``infoe``, ``infoe_train``, ``infom_prune8``, ``infoc_prune8``; 1 at best, 0 by chance;
        ``nan`` with one warning where fewer than two factors vary or fewer than two codes are kept. ``infoe`` falls
        below 0 where the classifier is worse on new rows than knowing nothing.

    Raises:
        TypeError: A table holds no numbers.
        ValueError: A table is malformed, or holds too few rows.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> factors = rng.integers(4, size=(1000, 2))
        >>> scores = infomec(factors + rng.normal(0, 0.1, (1000, 2)), factors, seed=0, num_train=800, num_test=200)
        >>> scores["infom"] > 0.9, scores["infoc"] > 0.9
        (True, True)
    """
    codes, factors = check_tables(codes, factors)
    rng = np.random.default_rng(seed)
    train, test = draw_rows(len(codes), (num_train, num_test), rng, with_replacement=with_replacement)
    check_classes(factors[train])
    factors = factors[:, (factors[train] != factors[train[0]]).any(axis=0)]
    mean, std = codes[train].mean(axis=0, dtype=np.float64), standard_deviation(codes[train])
    z, z_test = ((codes[rows] - mean) / np.where(std > 0, std, 1) for rows in (train, test))
    distinct = z + 1e-7 * rng.normal(size=z.shape)
    span = np.ptp(codes[train].astype(np.float64), axis=0)
    share = np.empty((z.shape[1], factors.shape[1]))
    for k, labels in enumerate(factors[train].T):
        total = entropy(np.unique(labels, return_counts=True)[1])
        share[:, k] = [nearest_neighbour_information(code, labels, num_neighbours) / total for code in distinct.T]
    scores: dict[str, float] = {}
    num_kept: list[int] = []
    for suffix, fraction in (("", 20), ("_prune8", 8)):
        kept = share[(span > 0) & (span >= span.max() / fraction)]
        num_kept.append(len(kept))
        scores[f"infom{suffix}"] = _concentration(kept)
        scores[f"infoc{suffix}"] = _concentration(kept.T)
    missing = [name for name, value in scores.items() if np.isnan(value)]
    if missing:
        warn_undefined(
            " and ".join(missing),
            f"they need two factors that vary and two codes in use, got {factors.shape[1]} and {min(num_kept)}",
        )
    explained = [_explained(z, factors[train, k], z_test, factors[test, k]) for k in range(factors.shape[1])]
    held_out, fitted = np.mean(explained, axis=0) if explained else (np.nan, np.nan)
    return scores | {"infoe": float(held_out), "infoe_train": float(fitted)}


def _concentration(share: np.ndarray) -> float:
    """Mean of max / sum over the rows that are not all zero, rescaled from 1 / columns .. 1 to 0 .. 1."""
    rows = share[share.sum(axis=1) > 0]
    columns = share.shape[1]
    if columns < 2 or not len(rows):
        return float("nan")
    return float(((rows.max(axis=1) / rows.sum(axis=1)).mean() - 1 / columns) / (1 - 1 / columns))


def _explained(train: np.ndarray, labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray) -> tuple[float, float]:
    model = Logistic.fit(train, labels, penalty=0.0, balanced=True)
    nothing = np.log(len(model.classes))  # balanced classes and no code: every class is equally likely
    losses = []
    for table, truth in ((test, test_labels), (train, labels)):
        known = np.isin(truth, model.classes)
        column = np.searchsorted(model.classes, truth[known])
        losses.append(-model.log_probabilities(table[known])[np.arange(known.sum()), column].mean())
    return float(1 - losses[0] / nothing), float(1 - losses[1] / nothing)


def nearest_neighbour_information(code: np.ndarray, labels: np.ndarray, num_neighbours: int = 10) -> float:
    """Mutual information of a continuous code and a discrete factor from nearest neighbours, in nats.

    For row i, r is the distance to its k-th neighbour among the N_y rows of the same label (k at most N_y - 1), and m
    the number of rows of any label closer than r, i included. I = psi(N) + mean psi(k) - mean psi(N_y) - mean psi(m);
    rows whose label is unique are left out.

    Source:
        Mutual Information between Discrete and Continuous Data Sets (Ross, 2014), equation 2.
        https://doi.org/10.1371/journal.pone.0087357

    Args:
        code: (N,) numbers.
        labels: (N,) integers.
        num_neighbours: k.

    Returns:
        Nats, 0 or more.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> labels = rng.integers(2, size=2000)
        >>> round(nearest_neighbour_information(labels + rng.normal(0, 0.01, 2000), labels), 2)  # log 2
        0.69
    """
    from scipy.special import digamma

    radius = np.zeros(len(code))
    used = np.zeros(len(code), np.int64)
    sizes = np.zeros(len(code), np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) < 2:
            continue
        k = min(num_neighbours, len(rows) - 1)
        rows = rows[np.argsort(code[rows], kind="stable")]
        ordered = np.concatenate([np.full(k, -np.inf), code[rows], np.full(k, np.inf)])
        n = len(rows)
        # The k nearest lie in a window of k + 1 neighbours in order that contains the row.
        windows = [
            np.maximum(
                ordered[k : k + n] - ordered[k - j : k - j + n], ordered[2 * k - j : 2 * k - j + n] - ordered[k : k + n]
            )
            for j in range(k + 1)
        ]
        radius[rows], used[rows], sizes[rows] = np.min(windows, axis=0), k, n
    kept = used > 0
    if not kept.any():
        return 0.0
    z = code[kept]
    r = np.maximum(radius[kept] - 2 * np.spacing(np.abs(z).max()), 0)  # the k-th neighbour itself is not counted
    everything = np.sort(z)
    closer = np.searchsorted(everything, z + r, side="right") - np.searchsorted(everything, z - r, side="left")
    nats = digamma(len(z)) + np.mean(digamma(used[kept]) - digamma(sizes[kept]) - digamma(np.maximum(closer, 1)))
    return max(0.0, float(nats))
