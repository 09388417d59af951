"""Models of every kind that a float16 file may hold, and their files."""

from pathlib import Path

import numpy as np
from torch import nn

from support.large_models import FEATURES, MODELS, WALK, forecaster, network
from support.models import HEADS
from tidegate.train import Forecaster, Zoneout, export_onnx
from tidegate.train.scaler import StandardScaler


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
