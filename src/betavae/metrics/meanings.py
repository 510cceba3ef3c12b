"""What each score means, in a line: its range, which end is good, and what it asks."""

import math
from typing import Final, NamedTuple


class Meaning(NamedTuple):
    """One score.

    Attributes:
        low: smallest possible value.
        high: largest possible value.
        larger_is_better: which end is good; ``None`` for a score that only describes.
        question: what the score asks.
    """

    low: float
    high: float
    larger_is_better: bool | None
    question: str

    @property
    def arrow(self) -> str:
        """The good end: up, down, or nothing.

        Example:
            >>> MEANINGS["mig"].arrow, MEANINGS["fairness.unfairness"].arrow
            ('↑', '↓')
        """
        return {True: "↑", False: "↓", None: ""}[self.larger_is_better]


MEANINGS: Final[dict[str, Meaning]] = {
    "dci.disentanglement": Meaning(0, 1, True, "does each latent serve one factor only?"),
    "dci.completeness": Meaning(0, 1, True, "is each factor served by one latent only?"),
    "dci.informativeness": Meaning(0, 1, True, "how often do boosted trees read a factor off the latents?"),
    "dci.informativeness_train": Meaning(0, 1, True, "informativeness on the rows that the trees were fitted to"),
    "mig": Meaning(0, 1, True, "is each factor told by one latent alone, in bits?"),
    "mig_chen": Meaning(0, 1, True, "is each factor told by one sampled latent alone, in fine bins?"),
    "mig_sup": Meaning(0, 1, True, "does each latent tell about one factor alone, in bits?"),
    "dcimig": Meaning(0, 1, True, "how much of all factors is told by latents of their own?"),
    "jemmig": Meaning(0, 1, True, "is each factor told by one latent that tells nothing else?"),
    "sap.classification": Meaning(0, 1, True, "does one latent alone separate each factor by lines?"),
    "sap.regression": Meaning(0, 1, True, "does one latent alone correlate with each factor?"),
    "beta_vae.accuracy": Meaning(0, 1, True, "can a linear classifier tell which factor two batches share?"),
    "beta_vae.accuracy_train": Meaning(0, 1, True, "the BetaVAE score on the points it was fitted to"),
    "factor_vae.accuracy": Meaning(0, 1, True, "does the stillest latent tell which factor was held?"),
    "factor_vae.accuracy_train": Meaning(0, 1, True, "the FactorVAE score on the points that voted"),
    "factor_vae.num_active": Meaning(0, math.inf, None, "how many latents took part in the vote?"),
    "z_min_variance": Meaning(-math.inf, 1, True, "the FactorVAE score at the paper's sizes, chance at 0"),
    "z_max_variance": Meaning(-math.inf, 1, True, "does the liveliest latent tell which factor was moved?"),
    "modularity": Meaning(0, 1, True, "does each latent tell about one factor only?"),
    "explicitness": Meaning(0, 1, True, "can a linear classifier rank each factor's values?"),
    "explicitness.train": Meaning(0, 1, True, "explicitness on the rows it was fitted to"),
    "irs": Meaning(-math.inf, 1, True, "does each latent stay put while other factors change?"),
    "infomec.infom": Meaning(0, 1, True, "does each latent tell about one factor only?"),
    "infomec.infoc": Meaning(0, 1, True, "is each factor told by one latent only?"),
    "infomec.infoe": Meaning(-math.inf, 1, True, "how many bits of the factors does a linear classifier find?"),
    "infomec.infoe_train": Meaning(-math.inf, 1, True, "InfoE on the rows it was fitted to"),
    "dci_es.explicitness": Meaning(-math.inf, 1, True, "do small probes read the latents as well as large ones?"),
    "dci_es.size": Meaning(0, math.inf, None, "how many factors are there for each latent?"),
    "downstream.accuracy_10": Meaning(0, 1, True, "accuracy of boosted trees with 10 labels"),
    "downstream.accuracy_100": Meaning(0, 1, True, "accuracy of boosted trees with 100 labels"),
    "downstream.accuracy_1000": Meaning(0, 1, True, "accuracy of boosted trees with 1,000 labels"),
    "downstream.accuracy_10000": Meaning(0, 1, True, "accuracy of boosted trees with 10,000 labels"),
    "downstream.efficiency_10": Meaning(0, math.inf, True, "share of the full accuracy that 10 labels reach"),
    "downstream.efficiency_100": Meaning(0, math.inf, True, "share of the full accuracy that 100 labels reach"),
    "downstream.efficiency_1000": Meaning(0, math.inf, True, "share of the full accuracy that 1,000 labels reach"),
    "fairness.unfairness": Meaning(0, 1, False, "how far do predictions shift with other factors, on average?"),
    "fairness.unfairness_worst": Meaning(0, 1, False, "how far do they shift for the worst value?"),
    "mcc.pearson": Meaning(0, 1, True, "does one latent each follow the factors in straight lines?"),
    "mcc.spearman": Meaning(0, 1, True, "does one latent each rise or fall with the factors?"),
    "r2.linear": Meaning(-math.inf, 1, True, "how much of the factors' variance does a linear map explain?"),
    "r2.trees": Meaning(-math.inf, 1, True, "how much of it do boosted regression trees explain?"),
    "edi.modularity": Meaning(0, 1, True, "does each latent tell about one factor alone?"),
    "edi.compactness": Meaning(0, 1, True, "is each factor told by one latent alone?"),
    "edi.explicitness": Meaning(0, 1, True, "how much of each factor do all latents together tell?"),
    "unibound": Meaning(0, 1, True, "does one latent tell what all others together do not?"),
    "unsupervised.gaussian_total_correlation": Meaning(
        0, math.inf, False, "how dependent are the latents, as Gaussians?"
    ),
    "unsupervised.gaussian_wasserstein_correlation": Meaning(0, math.inf, False, "how far are they from independent?"),
    "unsupervised.gaussian_wasserstein_correlation_normalised": Meaning(
        0, 2, False, "that distance over their variance"
    ),
    "unsupervised.mutual_information": Meaning(0, math.inf, False, "how much do two latents tell about each other?"),
    "unsupervised.active_latents": Meaning(0, math.inf, None, "how many latents are in use?"),
}


def meaning_of(name: str) -> Meaning:
    """What a score means, also with another number of labels than usual; of one that is not known, nothing.

    Example:
        >>> meaning_of("downstream.accuracy_40").question, meaning_of("mine").high
        ('accuracy of boosted trees with 40 labels', inf)
    """
    what, _, number = name.rpartition("_")
    if name in MEANINGS or not (f"{what}_10" in MEANINGS and number.isdigit()):
        return MEANINGS.get(name, Meaning(-math.inf, math.inf, None, ""))
    usual = MEANINGS[f"{what}_10"]
    return usual._replace(question=usual.question.replace("10", f"{int(number):,}"))
