"""What scores say of each latent, in numbers and in words."""

import numpy as np

from betavae import metrics
from betavae.runs.scores import capture_phrases, captured_factors, score_tables, strengths


def test_strengths_are_shares_of_entropy():
    scores = {
        "captures": [
            {"factor": "posX", "kind": "entangled", "latents": [1, 0], "strength": 0.5},
            {"factor": "shape", "kind": "captured", "latents": [1], "strength": 0.8},
            {"factor": "scale", "kind": "not captured", "latents": [], "strength": 0.01},
        ],
        "arrays": {"mig.mutual_information": [[0.6, 0, 0], [1.0, 0.8, 0]], "mig.factor_entropy": [2.0, 1.0, 1.0]},
    }
    assert strengths(scores, 3) == [[("posX", 0.3)], [("shape", 0.8), ("posX", 0.5)], []]
    assert strengths({}, 2) == [[], []]


def test_words():
    scores = {
        "captures": [
            {"factor": "posX", "kind": "captured", "latents": [1], "strength": 0.9},
            {"factor": "scale", "kind": "entangled", "latents": [1, 0], "strength": 0.4},
        ]
    }
    assert captured_factors(scores, 3) == ["scale", "posX, scale", ""]
    assert capture_phrases(scores) == ["posX: z1 (90 %)", "scale: entangled in z1 and z0 (40 %)"]


def test_small_tables_are_scored_by_every_metric_under_dlib():
    """Sizes that nobody gave stay the presets', whatever the number of rows."""
    rng = np.random.default_rng(0)
    factors = rng.integers(3, size=(2_000, 2))
    values = score_tables(factors + rng.normal(0, 0.1, (2_000, 2)), factors, ["infomec"], preset="dlib", repeats=1)
    direct = metrics.infomec(factors + np.zeros((2_000, 2)), factors, seed=0, preset="dlib")
    assert set(values["scores"]) == {f"infomec.{name}" for name in direct}
    assert (values["protocol"]["num_train"], values["protocol"]["num_test"]) == (10_000, 5_000)
    assert not values["notes"]
