"""Writes golden files that are not there yet: tiny models with inputs and outputs.

``make golden`` adds files for new kinds of models and never touches one that is
there: a file written once must load for ever. ``SHA256SUMS`` pins them all.

Each ``<name>.onnx`` has a ``<name>.npz`` beside it with two ragged rows:
``in.<tensor>`` for every input and ``out.<tensor>`` for every output, as ONNX
Runtime computed them when the file was written.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from tidegate.train import (
    Forecaster,
    Labeller,
    LanguageModel,
    Recurrent,
    Variational,
    Zoneout,
    export_onnx,
)
from tidegate.train.characters import CharacterEncoder
from tidegate.train.export import WeightFormat
from tidegate.train.heads import NegativeBinomialHead, StudentTHead
from tidegate.train.recurrent import CellName
from tidegate.train.scaler import StandardScaler

FOLDER = Path(__file__).parent
SUMS = "SHA256SUMS"
WORDS = ("<pad>", "<unk>", "open", "close", "the", "gate")
CHARACTERS = ("<pad>", "<unk>", *"acdeghlnopst")
TIME = 6
MAX_CHARACTERS = 5
LENGTHS = np.array([TIME, 2], np.int32)


def recurrent(
    cell: CellName, input_size: int = 3, layers: int = 2, *, hidden_size: int = 4, **arguments: Any
) -> Recurrent:
    """A network of four units, if not said otherwise."""
    return Recurrent(cell, input_size, hidden_size, layers, **arguments)


def forecaster(
    cell: CellName,
    differenced: tuple[bool, ...] = (),
    head: Mapping[str, Any] = MappingProxyType({"steps": "squareplus"}),
    **arguments: Any,
) -> Forecaster:
    """Two of three features, two steps ahead, three quantiles."""
    walk = np.random.default_rng(1).normal(size=(50, 3)).cumsum(axis=0)
    values = walk * [1.0, 0.1, 5.0] + [300.0, 10.0, -50.0]
    if head.get("head") is NegativeBinomialHead:
        values = np.abs(values)
    return Forecaster(
        recurrent(cell, **arguments),
        features=("level", "temperature", "load"),
        targets=("level", "load"),
        horizon=2,
        quantile_levels=(0.1, 0.5, 0.9),
        scaler=StandardScaler.fit(values, differenced),
        frequency="h",
        units=("ppm", "K", ""),
        **head,
    )


def labeller(*, bidirectional: bool, **arguments: Any) -> Labeller:
    """Three labels over six words."""
    width = 3
    if "characters" in arguments:
        width += arguments["characters"].output_size
    network = recurrent("lstm", width, bidirectional=bidirectional, regularizers=[Variational(0.2)])
    labels = ("NOUN", "VERB", "DET")
    return Labeller(network, words=WORDS, label_names=labels, embedding_size=3, **arguments)


def language_model(cell: CellName, *, tied: bool, **arguments: Any) -> LanguageModel:
    """Five tokens, tied through a projection or not at all."""
    network = recurrent(cell, **arguments)
    return LanguageModel(network, vocabulary=WORDS[1:], embedding_size=3, tied=tied)


def characters() -> CharacterEncoder:
    """Words of up to five characters, read in both directions."""
    network = Recurrent("gru", 3, 2, bidirectional=True)
    return CharacterEncoder(
        network, characters=CHARACTERS, embedding_size=3, max_characters=MAX_CHARACTERS
    )


def offset_forecaster() -> Forecaster:
    """Its quantiles are moved, as by a calibration."""
    model = forecaster("gru", head={})
    model.offsets += torch.tensor([-2.0, 0.0, 3.0])
    return model


def segmented_forecaster() -> Forecaster:
    """Steps over three observations, and each feature is a series of its own."""
    values = np.random.default_rng(1).normal(size=(50, 3)).cumsum(axis=0)
    return Forecaster(
        recurrent("gru", input_size=3),
        features=("level", "temperature", "load"),
        targets=("level", "temperature", "load"),
        horizon=2,
        quantile_levels=(0.1, 0.5, 0.9),
        scaler=StandardScaler.fit(values, (True, False, True)),
        frequency="h",
        segment=3,
        channel_independent=True,
    )


_COUNTS: dict[str, Any] = {"head": NegativeBinomialHead, "largest_count": 127}
_SENTENCES: dict[str, Any] = {"sentence_label_names": ("order", "remark")}
_ZONED: dict[str, Any] = {"regularizers": [Zoneout(cell=0.3, hidden=0.2)]}

MODELS: dict[str, Callable[[], nn.Module]] = {
    "recurrent-lstm": lambda: recurrent("lstm"),
    "recurrent-gru": lambda: recurrent("gru"),
    "recurrent-gru-reset-before": lambda: recurrent("gru", reset_after=False),
    "recurrent-rnn": lambda: recurrent("rnn"),
    "recurrent-lstm-bidirectional": lambda: recurrent("lstm", bidirectional=True),
    "recurrent-gru-bidirectional-sum": lambda: recurrent("gru", bidirectional=True, merge="sum"),
    "zoneout-lstm": lambda: recurrent("lstm", **_ZONED),
    "zoneout-gru": lambda: recurrent("gru", **_ZONED),
    "zoneout-gru-reset-before": lambda: recurrent("gru", reset_after=False, **_ZONED),
    "zoneout-rnn": lambda: recurrent("rnn", **_ZONED),
    "zoneout-lstm-bidirectional": lambda: recurrent("lstm", layers=1, bidirectional=True, **_ZONED),
    "forecaster-gru": lambda: forecaster("gru", (True, True, False)),
    "forecaster-lstm-levels": lambda: forecaster("lstm"),
    "forecaster-gru-zoneout": lambda: forecaster("gru", (True, True, True), **_ZONED),
    "forecaster-gru-absolute": lambda: forecaster("gru", (True, False, False), {}),
    "forecaster-gru-offsets": offset_forecaster,
    "forecaster-lstm-student-t": lambda: forecaster("lstm", head={"head": StudentTHead}),
    "forecaster-gru-negative-binomial": lambda: forecaster("gru", head=_COUNTS),
    "forecaster-gru-segments": segmented_forecaster,
    # One layer just large enough to be rounded.
    "forecaster-gru-float16": lambda: forecaster(
        "gru", (True, False, False), layers=1, hidden_size=19
    ),
    "forecaster-lstm-mc-masks": lambda: forecaster(
        "lstm", (True, True, True), {}, regularizers=[Variational(0.2, hidden_p=0.0)]
    ),
    "labeller-lstm": lambda: labeller(bidirectional=False),
    "labeller-lstm-bidirectional": lambda: labeller(bidirectional=True),
    "language-model-lstm-tied": lambda: language_model("lstm", tied=True),
    "language-model-gru-zoneout": lambda: language_model("gru", tied=False, **_ZONED),
    "labeller-characters": lambda: labeller(bidirectional=True, characters=characters()),
    "labeller-crf": lambda: labeller(bidirectional=True, decoder="crf"),
    "labeller-sentences-max": lambda: labeller(bidirectional=True, **_SENTENCES),
    "labeller-sentences-mean": lambda: labeller(bidirectional=True, pooling="mean", **_SENTENCES),
    "labeller-sentences-attention": lambda: labeller(
        bidirectional=True, pooling="attention", **_SENTENCES
    ),
}
# Of weights that are not float32.
WEIGHTS: dict[str, WeightFormat] = {"forecaster-gru-float16": "float16"}
# Whose masks of Monte Carlo inference are inputs.
MC_MASKS = frozenset({"forecaster-lstm-mc-masks"})


def main(folder: Path = FOLDER) -> list[str]:
    """Writes what is missing and returns the names of what was written."""
    written = []
    for name, build in MODELS.items():
        if not (folder / f"{name}.onnx").exists():
            _write(folder, name, build)
            written.append(name)
    return written


def _write(folder: Path, name: str, build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(5)
    export_onnx(
        build(),
        folder / f"{name}.onnx",
        weights=WEIGHTS.get(name, "float32"),
        mc_masks=name in MC_MASKS,
    )
    session = onnxruntime.InferenceSession(folder / f"{name}.onnx")
    inputs = {tensor.name: _input(tensor.name, tensor.shape) for tensor in session.get_inputs()}
    names = [tensor.name for tensor in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, inputs), strict=True))
    arrays = {f"in.{key}": value for key, value in inputs.items()}
    arrays |= {f"out.{key}": value for key, value in outputs.items()}
    np.savez_compressed(folder / f"{name}.npz", allow_pickle=False, **arrays)
    with (folder / SUMS).open("a") as sums:
        for path in (folder / f"{name}.onnx", folder / f"{name}.npz"):
            sums.write(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")


def _input(name: str, shape: list[int | str]) -> NDArray[Any]:
    free = {"batch": len(LENGTHS), "time": TIME, "characters": MAX_CHARACTERS}
    sizes = [free[axis] if isinstance(axis, str) else axis for axis in shape]
    rng = np.random.default_rng(len(name))
    if name == "lengths":
        return LENGTHS
    if name == "tokens":
        # All models have the first five ids.
        return rng.integers(0, len(WORDS) - 1, sizes)
    if name == "chars":
        # Words of one to five characters.
        ends = rng.integers(1, sizes[-1] + 1, (*sizes[:-1], 1))
        return np.where(np.arange(sizes[-1]) < ends, rng.integers(1, len(CHARACTERS), sizes), 0)
    values = rng.uniform(-1, 1, sizes)
    if name in ("x", "x_previous"):
        values = values * [1.0, 0.1, 5.0] + [300.0, 10.0, -50.0]
    return values.astype(np.float32)


if __name__ == "__main__":
    print(*main(), sep="\n")
