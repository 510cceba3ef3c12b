"""Scores on dSprites that others have published, as far as they were read at the source; for the figures of a study.

They are no targets: others' runs had 300,000 steps, other networks, other implementations of the metrics.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """Mean and standard deviation over seeds of one method's score.

    Attributes:
        method: As its source calls it.
        metric: As our table calls the score that is most like it.
        mean: Over seeds.
        spread: Standard deviation over seeds.
        source: Where it stands.
        grade: "read" at the source, or "quoted" from somebody's notes on it.
    """

    method: str
    metric: str
    mean: float
    spread: float
    source: str
    grade: str = "read"


CAVEAT = (
    "Published: mean and standard deviation over seeds, where read at the source for 300,000 steps of 64 images with "
    "Adam at 1e-4 and 10 codes; how those hyper-parameters were chosen was not seen. Metrics of the same name differ "
    "between implementations: compare the order of methods, not the digits."
)
_CFASL = "README of the code for CFASL (TMLR 2024), https://arxiv.org/abs/2401.08897; 10 seeds"
_TOPDIS = "TopDis (2024), as quoted in notes on the paper"

DSPRITES = (
    Published("β-VAE", "factor_vae.accuracy", 0.7354, 0.0647, _CFASL),
    Published("β-VAE", "mig", 0.1319, 0.0448, _CFASL),
    Published("β-VAE", "dci.disentanglement", 0.2149, 0.0630, _CFASL),
    Published("β-TCVAE", "factor_vae.accuracy", 0.7919, 0.0587, _CFASL),
    Published("β-TCVAE", "mig", 0.2395, 0.1013, _CFASL),
    Published("β-TCVAE", "dci.disentanglement", 0.3533, 0.0907, _CFASL),
    Published("CFASL", "factor_vae.accuracy", 0.8230, 0.0564, _CFASL),
    Published("CFASL", "mig", 0.3362, 0.0818, _CFASL),
    Published("CFASL", "dci.disentanglement", 0.4652, 0.0618, _CFASL),
    Published("β-TCVAE + TopDis", "mig", 0.341, 0.021, _TOPDIS, "quoted"),
)
