"""Small models with fixed weights, and running their files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from tidegate.train import Forecaster, Labeller, Recurrent, Zoneout
from tidegate.train.characters import CharacterEncoder
from tidegate.train.heads import NegativeBinomialHead, StudentTHead
from tidegate.train.regularizers import Regularizer
from tidegate.train.scaler import StandardScaler

Arrays = dict[str, NDArray[Any]]

# Every cell with its flavours: name and reset_after.
FLAVOURS = (("lstm", True), ("gru", True), ("gru", False), ("rnn", True))
FEATURES = ("level", "temperature", "load")


def small_recurrent(cell: str = "gru", **arguments: Any) -> Recurrent:
    """Three features in, eight hidden units, weights by a fixed seed."""
    torch.manual_seed(1)
    return Recurrent(cell, 3, 8, **arguments)  # type: ignore[arg-type]  # names from FLAVOURS


# Kinds of heads, by the name of their case.
HEADS: dict[str, dict[str, Any]] = {
    "quantile": {},
    "squareplus": {"steps": "squareplus"},
    "student_t": {"head": StudentTHead},
    "negative_binomial": {"head": NegativeBinomialHead},
}


def forecaster_with(head: str, *, differenced: bool = True) -> Forecaster:
    """A small forecaster with a head of :data:`HEADS`."""
    return small_forecaster(differenced=differenced, head=HEADS[head])


def small_forecaster(
    cell: str = "gru",
    *,
    differenced: bool = True,
    head: dict[str, Any] | None = None,
    **arguments: Any,
) -> Forecaster:
    """Forecasts two of three features over four steps, three quantiles."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(200, 3)).cumsum(axis=0) * [1.0, 0.1, 5.0] + [300.0, 10.0, -50.0]
    if head is HEADS["negative_binomial"]:
        values = np.abs(values)
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
        **(head or {}),
    ).eval()


def segmented_forecaster(
    cell: str = "gru",
    *,
    segment: int = 4,
    channel_independent: bool = False,
    lags: int = 0,
    head: str = "quantile",
    **arguments: Any,
) -> Forecaster:
    """Two layers that step over segments; forecasts all of three features over four steps."""
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    values = rng.normal(size=(200, 3)).cumsum(axis=0) * [1.0, 0.1, 5.0] + [300.0, 10.0, 500.0]
    width = segment * (1 if channel_independent else 3)
    model = Forecaster(
        Recurrent(cell, width, 8, 2, **arguments),  # type: ignore[arg-type]  # names from FLAVOURS
        features=FEATURES,
        targets=FEATURES,
        horizon=4,
        quantile_levels=(0.1, 0.5, 0.9),
        scaler=StandardScaler.fit(values, (True, True, lags > 0)),
        frequency="h",
        segment=segment,
        channel_independent=channel_independent,
        lags=lags,
        **HEADS[head],
    ).eval()
    if lags:
        # They begin at zero, where they would hide in a test.
        torch.nn.init.normal_(model.head.linear.weight[:, model.recurrent.output_size :], std=0.1)
    return model


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


CHARACTERS = ("<pad>", "<unk>", *"acdeghnoptGT")


def character_labeller(
    cell: str = "lstm",
    *,
    character_layers: int = 1,
    character_directions: int = 2,
    regularizers: Sequence[Regularizer] = (),
    **arguments: Any,
) -> Labeller:
    """Three labels over four words and what their first six characters say."""
    torch.manual_seed(3)
    encoder = CharacterEncoder(
        Recurrent(
            cell,  # type: ignore[arg-type]  # names from FLAVOURS
            4,
            3,
            character_layers,
            bidirectional=character_directions == 2,
            regularizers=regularizers,
        ),
        characters=CHARACTERS,
        embedding_size=4,
        max_characters=6,
    )
    return Labeller(
        Recurrent(
            cell,  # type: ignore[arg-type]  # likewise
            5 + encoder.output_size,
            8,
            2,
            bidirectional=True,
            regularizers=regularizers,
        ),
        words=("<pad>", "<unk>", "open", "close", "the", "gate"),
        label_names=("NOUN", "VERB", "DET"),
        embedding_size=5,
        characters=encoder,
        **arguments,
    ).eval()


def crf_labeller(labels: int = 3, **arguments: Any) -> Labeller:
    """A labeller whose labels are decoded together, with transitions that matter."""
    torch.manual_seed(4)
    model = Labeller(
        Recurrent("lstm", 5, 8, bidirectional=True),
        words=("<pad>", "<unk>", "open", "close", "the", "gate"),
        label_names=[f"L{number}" for number in range(labels)],
        embedding_size=5,
        decoder="crf",
        **arguments,
    )
    assert model.crf is not None
    for parameter in model.crf.parameters():
        torch.nn.init.normal_(parameter, std=2.0)
    return model.eval()


def joint_labeller(*, words: bool = True, **arguments: Any) -> Labeller:
    """A labeller of sentences, two labels, and of words, if asked."""
    torch.manual_seed(5)
    return Labeller(
        Recurrent("gru", 5, 8, bidirectional=True),
        words=("<pad>", "<unk>", "open", "close", "the", "gate"),
        label_names=("O", "B-x", "I-x") if words else (),
        embedding_size=5,
        sentence_label_names=("order", "remark"),
        **arguments,
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
