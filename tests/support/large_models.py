"""Models whose weights are worth rounding."""

from typing import Any

import numpy as np
import torch
from torch import nn

from tidegate.train import Forecaster, Labeller, LanguageModel, Recurrent, Zoneout
from tidegate.train.recurrent import CellName
from tidegate.train.regularizers import Regularizer
from tidegate.train.scaler import StandardScaler

HIDDEN = 48
WORDS = ("<pad>", "<unk>", *(f"word{number}" for number in range(60)))


def network(cell: CellName, *regularizers: Regularizer, **arguments: Any) -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(cell, 24, HIDDEN, 2, regularizers=regularizers, **arguments)


FEATURES = ("level", "temperature", "load")
WALK = np.random.default_rng(0).normal(size=(90, 3)).cumsum(axis=0) + np.array([300.0, 10.0, -50])


def forecaster(unit: float = 1.0, cell: CellName = "gru", **options: Any) -> Forecaster:
    torch.manual_seed(0)
    scaler = StandardScaler.fit(WALK * unit, (True, False, False))
    common: dict[str, Any] = {
        "features": FEATURES,
        "targets": ("level", "load"),
        "horizon": 12,
        "quantile_levels": (0.1, 0.5, 0.9),
        "scaler": scaler,
        "frequency": "h",
    }
    regularizers = options.pop("regularizers", ())
    width = options.get("segment", len(FEATURES))
    read = Recurrent(cell, width, HIDDEN, 2, regularizers=regularizers)
    return Forecaster(read, **common | options).eval()


MODELS: dict[str, nn.Module] = {
    "lstm": network("lstm"),
    "gru": network("gru"),
    "lstm-bidirectional-sum": network("lstm", bidirectional=True, merge="sum"),
    "gru-zoneout": network("gru", Zoneout(0.3, 0.2)),
    "labeller": Labeller(
        network("lstm", bidirectional=True),
        words=WORDS,
        label_names=("A", "B", "C"),
        embedding_size=24,
        decoder="crf",
    ),
    "forecaster": forecaster(),
    "language model": LanguageModel(network("lstm"), vocabulary=WORDS[1:], embedding_size=24),
}
