"""Models of every kind that a float16 file may hold, and their files."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from support.large_models import HIDDEN, MODELS, WALK, network
from support.models import HEADS
from tidegate.train import Forecaster, Recurrent, Zoneout, export_onnx
from tidegate.train.recurrent import CellName
from tidegate.train.scaler import StandardScaler

FEATURES = ("level", "temperature", "load")


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


def segmented() -> Forecaster:
    return forecaster(
        segment=4,
        channel_independent=True,
        lags=20,
        targets=FEATURES,
        scaler=StandardScaler.fit(WALK, (True, True, True)),
    )


COUNTS = StandardScaler.fit(np.abs(WALK), (False, False, False))
KINDS: dict[str, nn.Module] = {
    **MODELS,
    "rnn": network("rnn", bidirectional=True),
    "gru-reset-before": network("gru", reset_after=False),
    **{
        f"forecaster {name}": forecaster(cell="lstm", scaler=COUNTS, **options)
        for name, options in HEADS.items()
    },
    "forecaster of segments": segmented(),
    "forecaster with zoneout": forecaster(regularizers=[Zoneout(0.3, 0.2)]),
}


class Files:
    """A float16 file of each kind, written when first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, kind: str) -> Path:
        path = self._folder / f"{kind}.onnx"
        if not path.exists():
            export_onnx(KINDS[kind].eval(), path, weights="float16")
        return path
