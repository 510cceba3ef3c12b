"""Sentences of a report for readers who do not know β-VAEs: what the model is, what the data are, how good it is."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from betavae.data.factor_data import FactorData

_BAD = 0.3
"""Below this share of explained variation, reconstructions are bad."""


def about_method(method: str) -> str:
    """What a β-VAE is, with the name of the method.

    Example:
        >>> about_method("β-TCVAE").split(". ")[1]
        'This model is a β-TCVAE, a method of this family.'
    """
    named = "" if method in ("", "β-VAE") else f". This model is a {method}, a method of this family"
    return (
        "A β-VAE is a neural network that compresses an image to a few numbers, called latents, and draws it again "
        f"from them; it is trained so that each latent controls one property of the image{named}."
    )


def about_data(data: FactorData) -> str:
    """What the images show.

    Example:
        >>> from betavae.data.loading import load_data
        >>> about_data(load_data("dsprites"))
        'The data set dSprites has 737,280 images of a white square, ellipse or heart. They differ in shape, scale, \
orientation, horizontal position (posX) and vertical position (posY).'
    """
    if data.is_dsprites:
        shown = f"The data set dSprites has {len(data):,} images of a white square, ellipse or heart"
        factors = ["shape", "scale", "orientation", "horizontal position (posX)", "vertical position (posY)"]
    else:
        _, height, width = data.image_shape
        shown = f"The data set {data.name} has {len(data):,} images of {width} × {height} pixels"
        factors = [*data.factor_names]
    return f"{shown}. They differ in {_listed(factors)}." if factors else f"{shown}."


def about_page(can_explore: bool) -> str:
    """What the reader can do here."""
    if can_explore:
        return "Drag a slider: it changes one latent, and the model draws the image anew, here in your browser."
    return "The pictures below show what each latent does."


def verdict(
    captures: Sequence[Mapping[str, Any]], weak: Collection[str] = (), explained: float | None = None
) -> list[str]:
    """How many factors are captured by one latent, which are not, and how good the reconstructions are.

    Args:
        captures: captures of scores.json.
        weak: factors whose latent predicts them badly.
        explained: share of the variation of the pixels that the reconstructions explain; None or nan if unknown.

    Example:
        >>> kinds = (("posX", "captured"), ("shape", "entangled"), ("scale", "captured"))
        >>> verdict([{"factor": factor, "kind": kind} for factor, kind in kinds])
        ['2 of 3 factors are captured by one latent each: posX and scale.', 'Entangled in several latents: shape.']
    """
    by_kind: dict[str, list[str]] = {}
    for capture in captures:
        is_weak = capture["kind"] == "captured" and capture["factor"] in weak
        by_kind.setdefault("weak" if is_weak else capture["kind"], []).append(capture["factor"])
    captured = by_kind.pop("captured", [])
    number = len(captured) + sum(map(len, by_kind.values()))
    quality = _about_reconstructions(explained)
    if not number:
        return quality
    sentences = [f"{len(captured)} of {number} factors are captured by one latent each{': ' if captured else ''}"]
    sentences[0] += f"{_listed(captured)}."
    starts = {"entangled": "Entangled in several latents", "not captured": "Not captured by any latent"}
    starts |= {"does not vary": "Does not vary in the scored images", "weak": "Captured weakly"}
    return [*sentences, *(f"{starts[kind]}: {_listed(names)}." for kind, names in by_kind.items()), *quality]


def _about_reconstructions(explained: float | None) -> list[str]:
    """A sentence on the reconstructions, with a remedy if they are bad."""
    if explained is None or math.isnan(explained):
        return []
    if explained < _BAD:
        return [
            f"The reconstructions explain only {100 * explained:.0f} % of the variation of the pixels, so the model "
            "knows little about the images: train it longer, or with a smaller learning rate or β."
        ]
    return [f"The reconstructions explain {100 * explained:.0f} % of the variation of the pixels."]


def _listed(names: Sequence[str]) -> str:
    """Join names by commas and "and"."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
