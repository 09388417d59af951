"""Training: regularized recurrent networks, from data to a registered ONNX file."""

from tidegate.train.recurrent import Recurrent
from tidegate.train.regularizers import (
    RNNDrop,
    Semeniuta,
    Variational,
    WeightDrop,
    Zaremba,
    Zoneout,
)

__all__ = [
    "RNNDrop",
    "Recurrent",
    "Semeniuta",
    "Variational",
    "WeightDrop",
    "Zaremba",
    "Zoneout",
]
