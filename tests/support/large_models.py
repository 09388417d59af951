"""Models whose weights are worth rounding, and a trained one for the command."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tidegate.train import (
    Forecaster,
    Labeller,
    LanguageModel,
    Recurrent,
    Zoneout,
    checkpoint,
    job,
)
from tidegate.train.build import build_model, load_data
from tidegate.train.config import Config
from tidegate.train.recurrent import CellName
from tidegate.train.regularizers import Regularizer
from tidegate.train.scaler import StandardScaler

HIDDEN = 48
WORDS = ("<pad>", "<unk>", *(f"word{number}" for number in range(60)))


def network(cell: CellName, *regularizers: Regularizer, **arguments: Any) -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(cell, 24, HIDDEN, 2, regularizers=regularizers, **arguments)


WALK = np.random.default_rng(0).normal(size=(90, 3)).cumsum(axis=0) + np.array([300.0, 10.0, -50])
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
    "forecaster": Forecaster(
        Recurrent("gru", 3, HIDDEN, 2),
        features=("level", "temperature", "load"),
        targets=("level", "load"),
        horizon=12,
        quantile_levels=(0.1, 0.5, 0.9),
        scaler=StandardScaler.fit(WALK, (True, False, False)),
        frequency="h",
    ),
    "language model": LanguageModel(network("lstm"), vocabulary=WORDS[1:], embedding_size=24),
}


def trained_language_model(folder: Path) -> Path:
    """The checkpoint of a model that has learned two lines of text."""
    for part in ("a", "b", "c"):
        (folder / part).write_text("the tide comes in\nthe tide goes out\n" * 10)
    config = Config.model_validate(
        {
            "name": "tide",
            "task": "language_modelling",
            "dataset": {"name": "text", "path": folder, "files": ["a", "b", "c"]},
            "model": {"hidden_size": HIDDEN, "num_layers": 1, "embedding_size": HIDDEN},
            "training": {"epochs": 8, "lanes": 1, "bptt": 10, "learning_rate": 0.02},
        }
    )
    data = load_data(config)
    model = build_model(config, data)
    job.train(config, model, data)
    return checkpoint.save(folder / "model.pt", config, model)
