"""Published scores on dSprites, as references in reports and studies.

They are not targets: the published runs have 300,000 steps, other networks and other implementations of the metrics.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """Mean and standard deviation of a method's score over seeds.

    Attributes:
        method: Name of the method in the source.
        metric: The score of betavae that is closest to the published one.
        mean: Mean over seeds.
        spread: Standard deviation over seeds.
        source: Publication and number of runs.
        grade: "read" if the number comes from the source itself, "quoted" if it comes from notes about it.
    """

    method: str
    metric: str
    mean: float
    spread: float
    source: str
    grade: str = "read"


CAVEAT = (
    "Published scores: mean and standard deviation over seeds. Those that are not quoted were trained with 300,000 "
    "steps of 64 images, Adam at 1e-4 and 10 latents; we do not know how these hyper-parameters were chosen. "
    "Implementations of the same metric differ, so compare the ranking of the methods, not the numbers."
)
_CFASL = "README of the code for CFASL (TMLR 2024), https://arxiv.org/abs/2401.08897; 10 seeds"
_CLG = "Commutative Lie Group VAE (2021), as quoted in notes on the paper; 10 runs"
_TOPDIS = "TopDis (2024), as quoted in notes on the paper"

_RERUN: dict[str, tuple[tuple[float, float], ...]] = {
    "β-VAE": ((0.7354, 0.0647), (0.1319, 0.0448), (0.2149, 0.0630), (0.0569, 0.0198), (0.8320, 0.0707)),
    "β-TCVAE": ((0.7919, 0.0587), (0.2395, 0.1013), (0.3533, 0.0907), (0.0720, 0.0066), (0.8920, 0.0473)),
    "ControlVAE": ((0.6964, 0.0767), (0.0593, 0.0278), (0.1242, 0.0495), (0.0389, 0.0189), (0.8280, 0.0779)),
    "CLG-VAE": ((0.8233, 0.0559), (0.2296, 0.0608), (0.3123, 0.0532), (0.0707, 0.0086), (0.8680, 0.0343)),
    "CFASL": ((0.8230, 0.0564), (0.3362, 0.0818), (0.4652, 0.0618), (0.0728, 0.0063), (0.9020, 0.0553)),
}
_RERUN_METRICS = ("factor_vae.accuracy", "mig", "dci.disentanglement", "sap.classification", "beta_vae.accuracy")

DSPRITES = (
    *(
        Published(method, metric, mean, spread, _CFASL)
        for method, numbers in _RERUN.items()
        for metric, (mean, spread) in zip(_RERUN_METRICS, numbers, strict=True)
    ),
    Published("VAE", "factor_vae.accuracy", 0.694, 0.109, _CLG, "quoted"),
    Published("CLG-VAE, own paper", "factor_vae.accuracy", 0.861, 0.020, _CLG, "quoted"),
    Published("FactorVAE, TopDis baseline", "factor_vae.accuracy", 0.819, 0.028, _TOPDIS, "quoted"),
    Published("FactorVAE + TopDis", "factor_vae.accuracy", 0.824, 0.038, _TOPDIS, "quoted"),
    Published("β-TCVAE, TopDis baseline", "mig", 0.332, 0.029, _TOPDIS, "quoted"),
    Published("β-TCVAE + TopDis", "mig", 0.341, 0.021, _TOPDIS, "quoted"),
)
