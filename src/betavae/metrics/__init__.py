"""Disentanglement metrics on two tables: latents (N, D) and factors (N, K). No model, no data set, no torch."""

from betavae.files.tables import read_table
from betavae.metrics.beta_vae import beta_vae
from betavae.metrics.captures import Capture, describe_captures, find_captures
from betavae.metrics.ceilings import accuracy_ceiling, information_ceiling, score_ceilings
from betavae.metrics.dci import DCI, dci, fit_dci
from betavae.metrics.dci_es import dci_es
from betavae.metrics.downstream import downstream
from betavae.metrics.edi import edi
from betavae.metrics.factor_vae import factor_vae, z_max_variance, z_min_variance
from betavae.metrics.fairness import fairness
from betavae.metrics.infomec import RULES, infomec
from betavae.metrics.information import Information, measure_information
from betavae.metrics.inputs import active_latents
from betavae.metrics.irs import irs
from betavae.metrics.mcc import mcc
from betavae.metrics.mig import dcimig, jemmig, mig, mig_chen, mig_sup
from betavae.metrics.modularity import explicitness, modularity
from betavae.metrics.protocol import PRESETS, Protocol, sample_sizes
from betavae.metrics.r2 import r2
from betavae.metrics.record import Metric, ScoreInfo
from betavae.metrics.registry import METRICS, register, score_info
from betavae.metrics.sap import sap
from betavae.metrics.scores import Scores
from betavae.metrics.suite import evaluate
from betavae.metrics.udr import udr
from betavae.metrics.unibound import unibound
from betavae.metrics.unsupervised import unsupervised

__all__ = [
    "DCI",
    "METRICS",
    "PRESETS",
    "RULES",
    "Capture",
    "Information",
    "Metric",
    "Protocol",
    "ScoreInfo",
    "Scores",
    "accuracy_ceiling",
    "active_latents",
    "beta_vae",
    "dci",
    "dci_es",
    "dcimig",
    "describe_captures",
    "downstream",
    "edi",
    "evaluate",
    "explicitness",
    "factor_vae",
    "fairness",
    "find_captures",
    "fit_dci",
    "infomec",
    "information_ceiling",
    "irs",
    "jemmig",
    "mcc",
    "measure_information",
    "mig",
    "mig_chen",
    "mig_sup",
    "modularity",
    "r2",
    "read_table",
    "register",
    "sample_sizes",
    "sap",
    "score_ceilings",
    "score_info",
    "udr",
    "unibound",
    "unsupervised",
    "z_max_variance",
    "z_min_variance",
]
