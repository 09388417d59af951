"""From an ONNX file back to the PyTorch model: the file's own weights and spec.

The exporter names every weight in the graph; here they are put back. Biases
that the step of an expectation holds as a sum come back as that sum.

Dimensions: L layers, D directions, G gates, H hidden, I input size.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple, cast

import numpy as np
import onnx
import torch
from google.protobuf import json_format
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from tidegate.train.characters import CharacterEncoder, Normalization
from tidegate.train.export.characters import SCOPE
from tidegate.train.export.contract import step_rates
from tidegate.train.export.half import from_halves
from tidegate.train.export.heads import column_scale, of_distances
from tidegate.train.export.joints import SUFFIXES
from tidegate.train.export.quantization import float_weights
from tidegate.train.export.spec import METADATA_KEY, SPEC_VERSION
from tidegate.train.export.weights import (
    Array,
    OperatorWeights,
    StepWeights,
    from_operator_weights,
    from_step_weights,
    to_numpy,
)
from tidegate.train.forecaster import Forecaster
from tidegate.train.heads import HEADS, NegativeBinomialHead, QuantileHead, StudentTHead
from tidegate.train.labeller import Labeller
from tidegate.train.language_model import LanguageModel
from tidegate.train.pooling import AttentionPooling, PoolingName
from tidegate.train.rates import from_named
from tidegate.train.recurrent import CellName, Recurrent
from tidegate.train.regularizers import REGULARIZERS, Regularizer
from tidegate.train.scaler import StandardScaler
from tidegate.train.segments import Segments
from tidegate.v1 import model_spec_pb2 as pb

_CELLS: dict[int, CellName] = {pb.CELL_LSTM: "lstm", pb.CELL_GRU: "gru", pb.CELL_RNN: "rnn"}
_POOLINGS: dict[int, PoolingName] = {
    # Sentences without labels are not pooled at all.
    pb.POOLING_UNSPECIFIED: "max",
    pb.POOLING_MAX: "max",
    pb.POOLING_MEAN: "mean",
    pb.POOLING_ATTENTION: "attention",
}


class Rebuilt(NamedTuple):
    """What a file holds.

    Attributes:
        model: with the file's weights, in evaluation mode.
        spec: of the file.
    """

    model: nn.Module
    spec: pb.ModelSpec


def read_spec(file: onnx.ModelProto) -> pb.ModelSpec:
    """The spec inside a file.

    Raises:
        ValueError: there is none that this version reads.
    """
    texts = {one.key: one.value for one in file.metadata_props}
    if METADATA_KEY not in texts:
        raise ValueError(f"the file has no metadata {METADATA_KEY!r}; export_onnx writes it")
    try:
        spec = json_format.Parse(texts[METADATA_KEY], pb.ModelSpec(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise ValueError(f"the metadata {METADATA_KEY!r} is no ModelSpec: {error}") from error
    if not 1 <= spec.spec_version <= SPEC_VERSION:
        raise ValueError(
            f"spec_version={spec.spec_version}; this version of tidegate reads 1 to {SPEC_VERSION}"
        )
    return spec


def rebuild(file: onnx.ModelProto) -> Rebuilt:
    """Builds the model that a file was exported from.

    Raises:
        ValueError: the spec is of no known version, or the graph lacks a weight.
    """
    spec = read_spec(file)
    tensors = {one.name: numpy_helper.to_array(one) for one in file.graph.initializer}
    weights = _Weights(from_halves(float_weights(tensors)))
    if spec.task == pb.TASK_FORECASTING:
        model: nn.Module = _forecaster(spec, weights)
    elif spec.task == pb.TASK_LABELLING:
        model = _labeller(spec, weights)
    elif spec.task == pb.TASK_LANGUAGE_MODELLING:
        model = _language_model(spec, weights)
    else:
        model = _recurrent(spec, weights, input_size=spec.inputs[0].shape[2])
    return Rebuilt(model.eval(), spec)


class _Weights:
    """The named weights of a graph."""

    def __init__(self, tensors: Mapping[str, NDArray[Any]], scope: str = "") -> None:
        self._tensors = tensors
        self._scope = scope

    def scoped(self, scope: str) -> "_Weights":
        """Those of one of several networks."""
        return _Weights(self._tensors, scope)

    def __contains__(self, name: str) -> bool:
        return self._scope + name in self._tensors

    def __getitem__(self, name: str) -> Array:
        name = self._scope + name
        if name not in self._tensors:
            raise ValueError(
                f"the graph has no weight {name!r}; was it written by export_onnx of this version "
                "or a newer one?"
            )
        tensor: Array = self._tensors[name]
        return tensor


def _recurrent(
    spec: pb.ModelSpec | pb.Characters, weights: _Weights, *, input_size: int
) -> Recurrent:
    network = spec.network
    if network.cell not in _CELLS:
        raise ValueError(f"spec.network.cell={network.cell} is unknown; update tidegate")
    recurrent = Recurrent(
        _CELLS[network.cell],
        input_size,
        network.hidden_size,
        network.num_layers,
        bidirectional=spec.direction == pb.DIRECTION_BIDIRECTIONAL,
        regularizers=[_regularizer(one) for one in spec.regularizers],
        reset_after=network.reset_after or network.cell != pb.CELL_GRU,
        merge="sum" if network.merge == "sum" else "concat",
    )
    mc_masks = isinstance(spec, pb.ModelSpec) and bool(spec.masks)
    for name, value in _state(recurrent, weights, mc_masks=mc_masks).items():
        _fill(recurrent.get_parameter(name), value, name)
    return recurrent


@torch.no_grad()
def _fill(parameter: Tensor, value: Array, name: str) -> None:
    if parameter.shape != value.shape:
        raise ValueError(
            f"the graph's {name} has the shape {list(value.shape)}; the spec asks for "
            f"{list(parameter.shape)}"
        )
    parameter.copy_(torch.from_numpy(value.copy()))


def _state(recurrent: Recurrent, weights: _Weights, *, mc_masks: bool) -> dict[str, Array]:
    state: dict[str, Array] = {}
    for layer in range(recurrent.num_layers):
        for direction in range(recurrent.num_directions):
            suffix = f"_l{layer}{SUFFIXES[direction]}"
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            if step_rates(recurrent, mc_masks=mc_masks) is None:
                found = _operator(recurrent.cell, weights, layer, direction)
            else:
                found = _step(recurrent, weights, suffix)
            state |= {name + suffix: value for name, value in zip(names, found, strict=True)}
            if recurrent.bidirectional and recurrent.merge == "sum":
                state[f"weight_merge{suffix}"] = weights[f"merge{suffix}"].T
    return state


def _operator(cell: str, weights: _Weights, layer: int, direction: int) -> tuple[Array, ...]:
    W, R, B = (weights[f"{name}_l{layer}"][direction] for name in "WRB")
    return from_operator_weights(cell, OperatorWeights(W, R, B))


def _step(recurrent: Recurrent, weights: _Weights, suffix: str) -> tuple[Array, ...]:
    W, B = weights[f"step_W{suffix}"], weights[f"step_B{suffix}"]
    if recurrent.cell == "gru" and not recurrent.reset_after:
        R, B_hn = np.concatenate([weights[f"step_R_{one}{suffix}"] for one in ("rz", "n")]), None
    else:
        R = weights[f"step_R{suffix}"]
        B_hn = weights[f"step_B_hn{suffix}"] if recurrent.cell == "gru" else None
    return from_step_weights(recurrent.cell, StepWeights(W, R, B, B_hn))


def _forecaster(spec: pb.ModelSpec, weights: _Weights) -> Forecaster:
    forecast, scaler = spec.forecast, spec.forecast.scaler
    features = [feature.name for feature in forecast.features]
    segments = Segments(max(1, forecast.segment), forecast.channel_independent, forecast.lags)
    model = Forecaster(
        _recurrent(spec, weights, input_size=segments.input_size(len(features))),
        features=features,
        targets=forecast.targets,
        horizon=forecast.horizon,
        quantile_levels=forecast.quantile_levels,
        scaler=StandardScaler(
            np.array(scaler.center),
            np.array(scaler.scale),
            tuple(scaler.differenced),
            np.array(scaler.level),
        ),
        frequency=forecast.frequency,
        units=[feature.unit for feature in forecast.features],
        segment=segments.length,
        channel_independent=segments.channel_independent,
        lags=segments.lags,
        **_head_options(forecast.head),
    )
    # The graph holds 1 / scale in the first weights, but for those of float16, and the
    # targets' scale in the head, whose weights of lags are of changes.
    with torch.no_grad():
        if not model.reads_segments and spec.weights != "float16":
            model.recurrent.weights(0, 0).weight_ih.mul_(model.scale)
        _fill_head(model.head.linear, weights)
        distances = of_distances(to_numpy(model.head.linear.weight), segments.lags)
        model.head.linear.weight.copy_(torch.from_numpy(distances))
        if not model.head.shared:
            rows = torch.from_numpy(column_scale(model))
            model.head.linear.weight.div_(rows[:, None])
            model.head.linear.bias.div_(rows)
    if "quantile_offsets" in weights:
        model.offsets.copy_(torch.from_numpy(weights["quantile_offsets"].copy()))
    if isinstance(model.head, StudentTHead):
        df = torch.tensor(list(forecast.head.degrees_of_freedom))
        model.head.set_df(df.view_as(model.head.df))
    if isinstance(model.head, NegativeBinomialHead):
        model.head.set_dispersion(torch.tensor(list(forecast.head.dispersion)))
    return model


def _head_options(spec: pb.Head) -> dict[str, Any]:
    """Arguments of the forecaster; a file without a head in its spec has the first one."""
    name = spec.name or QuantileHead.name
    if name not in HEADS:
        raise ValueError(f"spec.forecast.head.name={name!r} is unknown; update tidegate")
    options: dict[str, Any] = {"head": HEADS[name]}
    if name == QuantileHead.name:
        options["steps"] = spec.steps or "squareplus"
    if name == NegativeBinomialHead.name:
        options["largest_count"] = spec.largest_count
    return options


def _labeller(spec: pb.ModelSpec, weights: _Weights) -> Labeller:
    labelling, embedding = spec.labelling, weights["embedding"]
    characters = None
    if labelling.HasField("characters"):
        characters = _characters(labelling.characters, weights.scoped(SCOPE))
    size = embedding.shape[1]
    model = Labeller(
        _recurrent(spec, weights, input_size=size + (characters.output_size if characters else 0)),
        words=labelling.words,
        label_names=labelling.label_names,
        embedding_size=size,
        lower_case=labelling.lower_case,
        characters=characters,
        decoder="crf" if labelling.decoder == pb.DECODER_CRF else "softmax",
        sentence_label_names=labelling.sentence_label_names,
        pooling=_POOLINGS[labelling.pooling],
    )
    _fill(model.embedding.weight, embedding, "embedding")
    if model.head is not None:
        _fill_head(model.head, weights)
    if model.crf is not None:
        for name, parameter in model.crf.named_parameters():
            _fill(parameter, weights[f"crf_{name}"], f"crf_{name}")
    if model.sentence_head is not None:
        _fill_head(model.sentence_head, weights, "sentence")
    if isinstance(model.pooling, AttentionPooling):
        _fill_head(model.pooling.hidden, weights, "pooling")
        _fill(model.pooling.score.weight, weights["pooling_v"].T, "pooling_v")
    return model


def _language_model(spec: pb.ModelSpec, weights: _Weights) -> LanguageModel:
    language, embedding = spec.language_model, weights["embedding"]
    size = embedding.shape[1]
    model = LanguageModel(
        _recurrent(spec, weights, input_size=size),
        vocabulary=language.vocabulary,
        embedding_size=size,
        unit="character" if language.unit == pb.TEXT_UNIT_CHARACTER else "word",
        tied=language.tied,
    )
    _fill(model.embedding.weight, embedding, "embedding")
    _fill(model.bias, weights["head_B"], "head_B")
    if model.weight is not None:
        _fill(model.weight, weights["head_W"], "head_W")
    if model.projection is not None:
        _fill(model.projection.weight, weights["projection_W"].T, "projection_W")
    return model


def _characters(spec: pb.Characters, weights: _Weights) -> CharacterEncoder:
    embedding = weights["embedding"]
    encoder = CharacterEncoder(
        _recurrent(spec, weights, input_size=embedding.shape[1]),
        characters=spec.characters,
        embedding_size=embedding.shape[1],
        max_characters=spec.max_characters,
        normalization=cast("Normalization", spec.normalization),
    )
    _fill(encoder.embedding.weight, embedding, f"{SCOPE}embedding")
    return encoder


def _fill_head(head: nn.Linear, weights: _Weights, name: str = "head") -> None:
    _fill(head.weight, weights[f"{name}_W"].T, f"{name}_W")
    _fill(head.bias, weights[f"{name}_B"], f"{name}_B")


def _regularizer(spec: pb.RegularizerSpec) -> Regularizer:
    if spec.name not in REGULARIZERS:
        raise ValueError(
            f"spec.regularizers names {spec.name!r}, which is unknown; update tidegate"
        )
    method = REGULARIZERS[spec.name]
    known = {field.name for field in fields(method)}
    # A rate may be derived, and no argument of its own.
    rates = {name: rate for name, rate in from_named(spec.rates).items() if name in known}
    options = {name: _option(text) for name, text in spec.options.items() if name in known}
    return method(**rates, **options)


def _option(text: str) -> str | bool:
    """Options stand in the spec as texts."""
    return {"true": True, "false": False}.get(text, text)
