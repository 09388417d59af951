"""Small models with fixed weights, and running their files."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from tidegate.train import Forecaster, Labeller, Recurrent, Zoneout
from tidegate.train.scaler import StandardScaler

Arrays = dict[str, NDArray[Any]]

# Every cell with its flavours: name and reset_after.
FLAVOURS = (("lstm", True), ("gru", True), ("gru", False), ("rnn", True))
FEATURES = ("level", "temperature", "load")


def small_recurrent(cell: str = "gru", **arguments: Any) -> Recurrent:
    """Three features in, eight hidden units, weights by a fixed seed."""
    torch.manual_seed(1)
    return Recurrent(cell, 3, 8, **arguments)  # type: ignore[arg-type]  # names from FLAVOURS


def small_forecaster(
    cell: str = "gru", *, differenced: bool = True, **arguments: Any
) -> Forecaster:
    """Forecasts two of three features over four steps, three quantiles."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(200, 3)).cumsum(axis=0) * [1.0, 0.1, 5.0] + [300.0, 10.0, -50.0]
    scaler = StandardScaler.fit(values, (True, True, False) if differenced else ())
    return Forecaster(
        small_recurrent(cell, num_layers=2, **arguments),
        features=FEATURES,
        targets=("level", "load"),
        horizon=4,
        quantile_levels=(0.1, 0.5, 0.9),
        scaler=scaler,
        frequency="h",
        units=("ppm", "K", ""),
    ).eval()


def zoned_forecaster(cell: str = "gru") -> Forecaster:
    """A forecaster whose inference is an expectation."""
    return small_forecaster(cell, regularizers=[Zoneout(cell=0.3, hidden=0.2)])


def small_labeller(*, bidirectional: bool = True, **arguments: Any) -> Labeller:
    """Three labels over a vocabulary of four words."""
    torch.manual_seed(2)
    return Labeller(
        Recurrent("lstm", 5, 8, 2, bidirectional=bidirectional, **arguments),
        words=("<pad>", "<unk>", "open", "close", "the", "gate"),
        label_names=("NOUN", "VERB", "DET"),
        embedding_size=5,
    ).eval()


class Session:
    """Runs a file with ONNX Runtime on one thread."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.output_names = [output.name for output in self._session.get_outputs()]
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map

    def run(self, inputs: Arrays) -> Arrays:
        """Every output by its name."""
        outputs = self._session.run(self.output_names, inputs)
        return dict(zip(self.output_names, outputs, strict=True))
