"""Training: regularized recurrent networks, from data to a registered ONNX file."""

from tidegate.train.export import ParityError, export_onnx
from tidegate.train.forecaster import Forecaster
from tidegate.train.importing import from_keras, from_torch
from tidegate.train.inference import MonteCarlo, monte_carlo
from tidegate.train.labeller import Labeller
from tidegate.train.language_model import LanguageModel
from tidegate.train.presets import awd
from tidegate.train.recurrent import Recurrent
from tidegate.train.regularizers import (
    EmbeddingDropout,
    RNNDrop,
    Semeniuta,
    Variational,
    WeightDrop,
    Zaremba,
    Zoneout,
)

__all__ = [
    "EmbeddingDropout",
    "Forecaster",
    "Labeller",
    "LanguageModel",
    "MonteCarlo",
    "ParityError",
    "RNNDrop",
    "Recurrent",
    "Semeniuta",
    "Variational",
    "WeightDrop",
    "Zaremba",
    "Zoneout",
    "awd",
    "export_onnx",
    "from_keras",
    "from_torch",
    "monte_carlo",
]
