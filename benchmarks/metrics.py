"""Seconds for each metric, ours against scikit-learn and numpy; seconds and memory of the suite; agreement of DCI.

    python benchmarks/metrics.py                # each metric at the published sizes, then the suite on 737,280 rows
    python benchmarks/metrics.py --quick        # the same with few rows, in a minute or two
    python benchmarks/metrics.py --agreement    # the fast trees of DCI against scikit-learn's, table by table

Both sides get the same latents in the same process, with one thread for matrix products; "plain" is the published
protocol written as one would with scikit-learn and numpy (below), without images: latents are looked up on either side.
Seconds of single metrics are CPU seconds, so that other work on the machine hardly matters; the suite's are both.

Tables are imitations of what encoders of dSprites give (`imitate`), or files: ``--latents FILE.npz ...`` with arrays
arrays ``latents`` and ``factors``, or the ``latents.npz`` of a finished run on dSprites.
"""

import argparse
import inspect
import resource
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from scipy.linalg import sqrtm
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, mutual_info_score, roc_auc_score
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from betavae import metrics
from betavae.data.generated import dsprites
from betavae.metrics.dci import TreeFits, fit_trees, summarise
from betavae.metrics.inputs import draw_rows

KINDS = ("good", "rotated", "collapsed", "entangled", "noisy")


def imitate(kind: str, num_rows: int = dsprites.NUM_IMAGES, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ten latents of each image: positions, scale, orientation round a circle and shape, and some that are inactive.

    ``good``: one factor a latent; ``rotated``: the six latents in use turned by a random rotation; ``collapsed``:
    positions alone; ``entangled``: ten smooth mixtures; ``noisy``: as good, with noise of half a standard deviation.
    """
    rng = np.random.default_rng(seed)
    factors = dsprites.factor_table().astype(np.int64)
    if num_rows < len(factors):
        factors = factors[rng.choice(len(factors), num_rows, replace=False)]
    shape, scale, orientation, x, y = factors.T
    place = np.linspace(-1.7, 1.7, 32)
    angle = np.array([4, 2, 1])[shape] * 2 * np.pi * orientation / 40  # a square looks the same four times a turn
    clean = np.zeros((len(factors), 10))
    clean[:, :6] = np.stack(
        [place[x], place[y], (scale - 2.5) / 1.7, np.cos(angle), np.sin(angle), (shape - 1) * 1.2], 1
    )
    used = 2 if kind == "collapsed" else 6
    match kind:
        case "good":
            latents = clean + rng.normal(0, 0.05, clean.shape)
        case "rotated":
            clean[:, :6] = clean[:, :6] @ np.linalg.qr(rng.normal(size=(6, 6)))[0]
            latents = clean + rng.normal(0, 0.05, clean.shape)
        case "collapsed":
            latents = clean + rng.normal(0, 0.1, clean.shape)
        case "entangled":
            inner, outer = rng.normal(size=(6, 16)), rng.normal(size=(16, 10))
            return (np.tanh(clean[:, :6] @ inner) @ outer / 4 + rng.normal(0, 0.05, clean.shape)).astype("f4"), factors
        case _:
            return (clean + rng.normal(0, 0.5, clean.shape)).astype("f4"), factors
    latents[:, used:] = 0.02 * rng.normal(size=(len(latents), 10 - used))
    return latents.astype(np.float32), factors


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Latents and factors of a file."""
    with np.load(path, allow_pickle=False) as arrays:
        if "latents" in arrays:
            return arrays["latents"], arrays["factors"]
        return arrays["mean"], dsprites.factor_table()[arrays["rows"]]


class Plain:
    """The published protocols, one method a metric, as scikit-learn and numpy express them."""

    def __init__(self, latents: np.ndarray, factors: np.ndarray, num_train: int, num_test: int) -> None:
        self.latents, self.factors, self.num_train, self.num_test = latents, factors, num_train, num_test
        self.rng = np.random.RandomState(0)
        self.train, self.test = draw_rows(len(latents), (num_train, num_test), np.random.default_rng(0))
        self.num_factors = factors.shape[1]

    def tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return self.latents[self.train], self.factors[self.train], self.latents[self.test], self.factors[self.test]

    def boosted(self, num_labels: int) -> list[GradientBoostingClassifier]:
        latents, factors, _, _ = self.tables()
        return [GradientBoostingClassifier(random_state=0).fit(latents[:num_labels], y[:num_labels]) for y in factors.T]

    def dci(self) -> float:
        models = self.boosted(self.num_train)
        _, _, latents, factors = self.tables()
        fits = TreeFits(
            np.stack([model.feature_importances_ for model in models], axis=1),
            np.stack([model.predict(latents) for model in models], axis=1),
            np.array(
                [
                    model.score(self.latents[self.train], y)
                    for model, y in zip(models, self.factors[self.train].T, strict=True)
                ]
            ),
        )
        return summarise(fits, factors).scores()["disentanglement"]

    def downstream(self) -> float:
        _, _, latents, factors = self.tables()
        scores = {}
        for num_labels in [n for n in (10, 100, 1_000) if n < self.num_train] + [self.num_train]:
            models = self.boosted(num_labels)
            scores[num_labels] = np.mean([model.score(latents, y) for model, y in zip(models, factors.T, strict=True)])
        return float(scores[100])

    def fairness(self) -> float:
        models = self.boosted(self.num_train)
        distances = []
        for sensitive in range(self.num_factors):
            base = self.factors[self.rng.randint(len(self.factors), size=100)]
            rows = [
                self.find(np.column_stack([base[:, :sensitive], np.full(100, value), base[:, sensitive + 1 :]]))
                for value in np.unique(self.factors[:, sensitive])
            ]
            for target, model in enumerate(models):
                if target != sensitive:
                    counts = [np.bincount(model.predict(self.latents[r]), minlength=40) / 100 for r in rows]
                    distances.append(np.abs(counts - np.mean(counts, axis=0)).sum(axis=1).mean() / 2)
        return float(np.mean(distances))

    @cached_property
    def places(self) -> dict[tuple[int, ...], int]:
        """Row of each combination of factors."""
        return {tuple(row): place for place, row in enumerate(self.factors.tolist())}

    def find(self, wanted: np.ndarray) -> np.ndarray:
        """Rows with these factors; of a part of the grid, any row where there is none."""
        return np.array([self.places.get(tuple(row), self.rng.randint(len(self.factors))) for row in wanted.tolist()])

    def bins(self) -> np.ndarray:
        latents = self.latents[self.train]
        return np.stack([np.digitize(column, np.histogram(column, 20)[1][:-1]) for column in latents.T], axis=1)

    def information(self) -> np.ndarray:
        binned, factors = self.bins(), self.factors[self.train]
        return np.array([[mutual_info_score(y, z) for y in factors.T] for z in binned.T])

    def mig(self) -> float:
        ordered = np.sort(self.information(), axis=0)
        return float(
            ((ordered[-1] - ordered[-2]) / [mutual_info_score(y, y) for y in self.factors[self.train].T]).mean()
        )

    def mig_sup(self) -> float:
        shares = self.information() / [mutual_info_score(y, y) for y in self.factors[self.train].T]
        ordered = np.sort(shares, axis=1)
        return float((ordered[:, -1] - ordered[:, -2]).mean())

    def modularity(self) -> float:
        squares = self.information() ** 2
        largest = squares.max(axis=1)
        return float(1 - ((squares.sum(axis=1) - largest) / largest / (self.num_factors - 1)).mean())

    def sap(self) -> float:
        latents, factors, test_latents, test_factors = self.tables()
        scores = np.array(
            [
                [
                    LinearSVC(C=0.01, class_weight="balanced", random_state=0)
                    .fit(latents[:, [d]], factors[:, k])
                    .score(test_latents[:, [d]], test_factors[:, k])
                    for k in range(self.num_factors)
                ]
                for d in range(latents.shape[1])
            ]
        )
        ordered = np.sort(scores, axis=0)
        return float((ordered[-1] - ordered[-2]).mean())

    @cache  # noqa: B019 - the object lives as long as the programme
    def groups(self, k: int) -> list[np.ndarray]:
        return [np.flatnonzero(self.factors[:, k] == value) for value in np.unique(self.factors[:, k])]

    def beta_vae(self) -> float:
        points, held = [], []
        for _ in range(self.num_train + self.num_test):
            k = self.rng.randint(self.num_factors)
            first = self.rng.randint(len(self.latents), size=64)
            second = [self.rng.choice(self.groups(k)[value]) for value in self.factors[first, k]]
            points.append(np.abs(self.latents[first] - self.latents[second]).mean(axis=0))
            held.append(k)
        model = LogisticRegression(random_state=0).fit(points[: self.num_train], held[: self.num_train])
        return float(model.score(points[self.num_train :], held[self.num_train :]))

    def factor_vae(self) -> float:
        variance = self.latents[self.rng.randint(len(self.latents), size=10_000)].var(axis=0, ddof=1)
        active = np.sqrt(variance) >= 0.05
        votes = np.zeros((2, active.sum(), self.num_factors))
        for point in range(self.num_train + self.num_test):
            k = self.rng.randint(self.num_factors)
            group = self.groups(k)[self.rng.randint(len(self.groups(k)))]
            local = self.latents[group[self.rng.randint(len(group), size=64)]][:, active].var(axis=0, ddof=1)
            votes[int(point >= self.num_train), np.argmin(local / variance[active]), k] += 1
        winners = votes[0].argmax(axis=1)
        return float(votes[1][np.arange(len(winners)), winners].sum() / votes[1].sum())

    def explicitness(self) -> float:
        latents, factors, test_latents, test_factors = self.tables()
        mean, std = latents.mean(axis=0), latents.std(axis=0)
        areas = []
        for k in range(self.num_factors):
            model = LogisticRegression().fit((latents - mean) / std, factors[:, k])
            shares = model.predict_proba((test_latents - mean) / std)
            truth = test_factors[:, k, None] == model.classes_
            kept = truth.any(axis=0)
            areas.append(roc_auc_score(truth[:, kept], shares[:, kept]))
        return float(np.mean(areas))

    def irs(self) -> float:
        latents, factors = self.latents[self.train], self.factors[self.train]
        reach = np.abs(latents - latents.mean(axis=0)).max(axis=0)
        scores = np.zeros((latents.shape[1], self.num_factors))
        for k in range(self.num_factors):
            binned = np.digitize(factors[:, k], np.histogram(factors[:, k], 20)[1][:-1])
            held = [latents[binned == value] for value in np.unique(binned)]
            spread = [np.percentile(np.abs(rows - rows.mean(axis=0)), 99, axis=0) for rows in held]
            scores[:, k] = 1 - np.mean(spread, axis=0) / reach
        return float(np.average(scores.max(axis=1), weights=reach))

    def infomec(self) -> float:
        latents, factors, _, _ = self.tables()
        scaled = (latents - latents.mean(axis=0)) / latents.std(axis=0)
        shares = []
        for y in factors.T:
            known = mutual_info_classif(scaled, y, discrete_features=False, n_neighbors=10, random_state=0)
            shares.append(known / mutual_info_score(y, y))
            for table in (scaled, np.zeros_like(scaled)):
                model = LogisticRegression(C=np.inf, class_weight="balanced").fit(table, y)
                log_loss(y, model.predict_proba(table))
        span = np.ptp(latents, axis=0)
        kept = np.array(shares).T[span >= span.max() / 20]
        kept = kept[kept.sum(axis=1) > 0]
        return float(((kept.max(axis=1) / kept.sum(axis=1)).mean() * self.num_factors - 1) / (self.num_factors - 1))

    def unsupervised(self) -> float:
        latents = self.latents[self.train].astype(float)
        covariance = np.cov(latents.T)
        binned = self.bins()
        _ = [mutual_info_score(a, b) for a in binned.T for b in binned.T]
        _ = np.trace(covariance) - np.trace(sqrtm(covariance * np.diag(covariance)[:, None]).real)
        return float((np.log(np.diag(covariance)).sum() - np.linalg.slogdet(covariance)[1]) / 2)


COMPARED: dict[str, str] = {
    "dci": "disentanglement",
    "mig": "mig",
    "mig_sup": "mig_sup",
    "modularity": "modularity",
    "sap": "classification",
    "beta_vae": "accuracy",
    "factor_vae": "accuracy",
    "explicitness": "explicitness",
    "irs": "irs",
    "infomec": "infom",
    "downstream": "accuracy_100",
    "fairness": "unfairness",
    "unsupervised": "gaussian_total_correlation",
}
"""The metrics that both sides compute, and the score of each that is shown."""


def cpu_seconds(work: Callable[[], object]) -> tuple[float, object]:
    """CPU seconds of all threads."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def compare_metrics(
    latents: np.ndarray, factors: np.ndarray, num_train: int, num_test: int, names: Sequence[str] = ()
) -> None:
    """Print seconds and scores of each metric, of both sides, under the protocol of disentanglement_lib."""
    latents = latents[:, metrics.active_latents(latents)]
    plain = Plain(latents, factors, num_train, num_test)
    sizes = {"num_train": num_train, "num_test": num_test}
    metrics.evaluate(latents[:300], factors[:300] % 2, metrics=["dci"], num_train=200, num_test=100)  # compiles
    print(f"{'metric':<14}{'ours, s':>10}{'plain, s':>10}{'times':>8}{'ours':>10}{'plain':>10}")
    for name, score in COMPARED.items():
        if names and name not in names:
            continue
        accepted = inspect.signature(metrics.METRICS[name].function).parameters
        options = {key: size for key, size in sizes.items() if key in accepted}
        with threadpool_limits(1, "blas"), warnings.catch_warnings():
            seconds, found = cpu_seconds(
                lambda name=name, options=options: metrics.METRICS[name](
                    latents, factors, seed=0, preset="dlib", **options
                )
            )
            warnings.simplefilter("ignore", ConvergenceWarning)  # the published protocol stops after 100 iterations
            slow, value = cpu_seconds(getattr(plain, name))
        print(
            f"{name:<14}{seconds:>10.2f}{slow:>10.2f}{slow / seconds:>8.0f}{found[score]:>10.3f}{value:>10.3f}",
            flush=True,
        )


def time_suite(latents: np.ndarray, factors: np.ndarray, num_train: int, num_test: int) -> None:
    """Print seconds and peak memory of the default suite with intervals and chance levels."""
    wall = time.perf_counter()
    seconds, found = cpu_seconds(lambda: metrics.evaluate(latents, factors, num_train=num_train, num_test=num_test))
    wall = time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{'score':<48}{'value':>8}{'95 % interval':>18}{'chance':>8}")
    for name, value in found.scores.items():
        low, high = found.intervals[name]
        print(f"{name:<48}{value:>8.3f}{low:>9.3f}{high:>9.3f}{found.chance.get(name, np.nan):>8.3f}")
    print(f"suite on {len(latents):,} rows: {wall:.1f} s, {seconds:.1f} CPU s, peak memory {peak:.2f} GiB", flush=True)


def compare_trees(
    name: str, latents: np.ndarray, factors: np.ndarray, cache_folder: Path, sizes: tuple[int, int]
) -> None:
    """Print D, C and I of one table by both classifiers; scikit-learn's fits are kept in a folder, factor by factor."""
    train, test = draw_rows(len(latents), sizes, np.random.default_rng(0))
    fits = []
    for k in range(factors.shape[1]):
        path = cache_folder / f"{name}_{k}.npz"
        if not path.exists():
            model = GradientBoostingClassifier(random_state=0)
            seconds, _ = cpu_seconds(lambda k=k, model=model: model.fit(latents[train], factors[train, k]))
            more, predicted = cpu_seconds(
                lambda model=model: (model.predict(latents[train]), model.predict(latents[test]))
            )
            right = (predicted[0] == factors[train, k]).mean()
            part = path.with_suffix(".part.npz")
            np.savez(
                part,
                importance=model.feature_importances_,
                predicted=predicted[1],
                accuracy_train=right,
                cpu=seconds + more,
            )
            part.replace(path)
        with np.load(path) as saved:
            fits.append({key: saved[key] for key in ("importance", "predicted", "accuracy_train", "cpu")})
    slow = TreeFits(
        np.stack([fit["importance"] for fit in fits], axis=1),
        np.stack([fit["predicted"] for fit in fits], axis=1),
        np.array([fit["accuracy_train"] for fit in fits]),
    )
    seconds, fast = cpu_seconds(lambda: fit_trees(latents[train], factors[train], latents[test], seed=0))
    ours, theirs = (summarise(fit, factors[test]).scores() for fit in (fast, slow))
    total = sum(float(fit["cpu"]) for fit in fits)
    keys = ("disentanglement", "completeness", "informativeness")
    numbers = "".join(f"{ours[key]:>9.4f}{theirs[key]:>8.4f}{abs(ours[key] - theirs[key]):>8.4f}" for key in keys)
    print(f"{name:<20}{numbers}{seconds:>8.1f}{total:>9.1f}{total / seconds:>7.0f}", flush=True)


def main() -> None:
    """Read the command line and print what it asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rows, a minute or two")
    parser.add_argument("--agreement", action="store_true", help="fast trees against scikit-learn's; minutes a table")
    parser.add_argument(
        "--latents", type=Path, nargs="+", default=[], metavar="FILE", help=".npz files of latent tables"
    )
    parser.add_argument("--metrics", nargs="+", default=[], help="only these metrics, and no suite")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS), help="imitations for --agreement")
    parser.add_argument("--cache", type=Path, default=Path("build/agreement"), help="folder of scikit-learn's fits")
    given = parser.parse_args()
    sizes = (300, 300) if given.quick else (10_000, 5_000)
    if given.agreement:
        folder = given.cache / f"{sizes[0]}"
        folder.mkdir(parents=True, exist_ok=True)
        titles = "".join(f"{letter:>9}{'sklearn':>8}{'differ':>8}" for letter in "DCI")
        print(f"{'table':<20}{titles}{'s':>8}{'sklearn':>9}{'times':>7}")
        tables: list[tuple[str, Callable[[], tuple[np.ndarray, np.ndarray]]]] = [
            (path.parent.name if path.name == "latents.npz" else path.stem, lambda path=path: load(path))
            for path in given.latents
        ]
        tables += [(kind, lambda kind=kind: imitate(kind, 60_000)) for kind in given.kinds]
        fit_trees(np.eye(30), np.arange(30)[:, None] % 3, np.eye(30), seed=0)  # compiles
        for name, read in tables:
            compare_trees(name, *read(), folder, sizes)
        return
    latents, factors = load(given.latents[0]) if given.latents else imitate("good", 60_000 if given.quick else 737_280)
    if not given.metrics:
        time_suite(latents, factors, *sizes)
    compare_metrics(latents, factors, *sizes, given.metrics)


if __name__ == "__main__":
    main()
