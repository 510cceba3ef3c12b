"""Small trained models that come with the package: a folder each, in the layout of a run folder.

An entry has settings, provenance, curve, weights in half precision, scores, a model card, the animated traversals and
the latents of 3,000 images. `betavae export RUN --zoo FOLDER` writes one.
"""

from betavae.zoo.entries import names, open_entry, overview, working_copy

__all__ = ["names", "open_entry", "overview", "working_copy"]
