"""Tiny seeded models, built as the exporter builds real ones, for tests of the server."""

from support.onnx_models.files import half, load, save, set_spec, spec_of
from support.onnx_models.forecaster import crashing, forecaster
from support.onnx_models.labeller import LABELS, WORDS, labeller

__all__ = [
    "LABELS",
    "WORDS",
    "crashing",
    "forecaster",
    "half",
    "labeller",
    "load",
    "save",
    "set_spec",
    "spec_of",
]
