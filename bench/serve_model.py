"""The model of the serving benchmarks: an exported GRU of 2 layers with 128 units, 8 features.

`serve_model.py FOLDER` writes it to `FOLDER/models`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from serve_shape import FEATURES, HORIZON, NAME, QUANTILES
from tidegate.train import Forecaster, Recurrent, export_onnx
from tidegate.train.publish import publish
from tidegate.train.scaler import StandardScaler


def make_repository(folder: Path) -> Path:
    """Writes the model into a repository in `folder`; returns the path of its file."""
    torch.manual_seed(0)
    names = [f"feature_{i}" for i in range(FEATURES)]
    model = Forecaster(
        Recurrent("gru", FEATURES, 128, 2),
        features=names,
        targets=names[:1],
        horizon=HORIZON,
        quantile_levels=QUANTILES,
        scaler=StandardScaler.fit(np.random.default_rng(0).normal(size=(64, FEATURES)), ()),
        frequency="min",
    )
    exported = folder / "exported.onnx"
    export_onnx(model.eval(), exported)
    return publish(exported, folder / "models", NAME, "1")


if __name__ == "__main__":
    make_repository(Path(sys.argv[1]))
