"""Writes the ModelSpec: what a file says about itself."""

import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from google.protobuf import json_format
from torch import nn

from tidegate.train.characters import CharacterEncoder
from tidegate.train.export.contract import network_contract, regularizer_contract
from tidegate.train.export.crf import SCANS
from tidegate.train.export.graph import GraphBuilder, TensorInfo
from tidegate.train.export.mc_masks import MaskInput, mask_inputs
from tidegate.train.forecaster import Forecaster
from tidegate.train.heads import Head, NegativeBinomialHead, QuantileHead, StudentTHead
from tidegate.train.labeller import Labeller
from tidegate.train.language_model import LanguageModel
from tidegate.train.pooling import AttentionPooling, MaxPooling, MeanPooling
from tidegate.train.recurrent import Recurrent
from tidegate.train.regularizers import Contract, Regularizer
from tidegate.v1 import model_spec_pb2 as pb

# The oldest version whose readers read these files rightly; see model_spec.proto.
SPEC_VERSION = 1
METADATA_KEY = "tidegate.spec"

_CELLS = {"lstm": pb.CELL_LSTM, "gru": pb.CELL_GRU, "rnn": pb.CELL_RNN}
_POOLINGS = {
    MaxPooling: pb.POOLING_MAX,
    MeanPooling: pb.POOLING_MEAN,
    AttentionPooling: pb.POOLING_ATTENTION,
}
_CONTRACTS = {
    Contract.IDENTITY: pb.INFERENCE_CONTRACT_IDENTITY,
    Contract.FOLDED: pb.INFERENCE_CONTRACT_FOLDED,
    Contract.EXPECTATION: pb.INFERENCE_CONTRACT_EXPECTATION,
}
_PACKAGES = ("tidegate", "torch", "onnx", "onnxruntime", "onnxruntime-gpu")
_INITIAL_VALUES = {"x_previous": float("nan")}


class Origin(NamedTuple):
    """Where a model comes from.

    Attributes:
        metrics: of the held-out part, by name.
        data_digest: SHA-256 of the training data, hexadecimal.
        git_commit: of the training code or recipe.
        mlflow_run_id: of the run that trained it.
    """

    metrics: Mapping[str, float]
    data_digest: str
    git_commit: str
    mlflow_run_id: str


def build_spec(model: nn.Module, graph: GraphBuilder, origin: Origin) -> pb.ModelSpec:
    """The spec of a model and its graph, without the parity still to be measured."""
    recurrent = recurrent_of(model)
    spec = pb.ModelSpec(
        spec_version=SPEC_VERSION,
        task=_task(model),
        direction=_direction(recurrent),
        network=_network(recurrent),
        inputs=[_tensor(info) for info in graph.inputs],
        outputs=[_tensor(info) for info in graph.outputs],
        states=_states(graph),
        regularizers=[_regularizer(one, recurrent) for one in recurrent.regularizers],
        contract=_CONTRACTS[network_contract(recurrent)],
        metrics=origin.metrics,
        provenance=pb.Provenance(
            data_digest=origin.data_digest,
            git_commit=origin.git_commit,
            mlflow_run_id=origin.mlflow_run_id,
            versions=_versions(),
        ),
    )
    if graph.mc_masks:
        spec.masks.extend(_mask(one) for one in mask_inputs(recurrent).values())
    if isinstance(model, Forecaster):
        spec.forecast.CopyFrom(_forecast(model))
    if isinstance(model, Labeller):
        spec.labelling.CopyFrom(_labelling(model))
    if isinstance(model, LanguageModel):
        spec.language_model.CopyFrom(_language_model(model))
    return spec


def _mask(mask: MaskInput) -> pb.MaskSpec:
    kept = 1 - mask.rate
    return pb.MaskSpec(input=mask.name, keep_probability=kept, scale=1 / kept if kept else 0.0)


def recurrent_of(model: nn.Module) -> Recurrent:
    """The network of a model, which may be the model itself.

    Raises:
        TypeError: it has none.
    """
    recurrent = model if isinstance(model, Recurrent) else model.recurrent
    if not isinstance(recurrent, Recurrent):
        raise TypeError(f"model.recurrent is a {type(recurrent).__name__}; give a Recurrent")
    return recurrent


def networks_of(model: nn.Module) -> list[Recurrent]:
    """Every network of a model."""
    characters = model.characters if isinstance(model, Labeller) else None
    return [recurrent_of(model), *([characters.recurrent] if characters else [])]


def scans_of(model: nn.Module) -> int:
    """Scans of the graph that belong to no network."""
    return SCANS if isinstance(model, Labeller) and model.crf is not None else 0


def vocabulary_digest(words: Sequence[str]) -> str:
    """SHA-256 of the words in order, each followed by a line feed."""
    return hashlib.sha256("".join(f"{word}\n" for word in words).encode()).hexdigest()


def to_json(spec: pb.ModelSpec) -> str:
    """The spec as it stands in the file, the same for equal specs."""
    text: str = json_format.MessageToJson(spec, indent=None, sort_keys=True)
    return text


def _task(model: nn.Module) -> pb.Task.ValueType:
    if isinstance(model, Forecaster):
        return pb.TASK_FORECASTING
    if isinstance(model, LanguageModel):
        return pb.TASK_LANGUAGE_MODELLING
    return pb.TASK_LABELLING if isinstance(model, Labeller) else pb.TASK_RECURRENT


def _network(recurrent: Recurrent) -> pb.Network:
    return pb.Network(
        cell=_CELLS[recurrent.cell],
        num_layers=recurrent.num_layers,
        hidden_size=recurrent.hidden_size,
        merge=recurrent.merge if recurrent.bidirectional else "",
        reset_after=recurrent.cell == "gru" and recurrent.reset_after,
    )


def _direction(recurrent: Recurrent) -> pb.Direction.ValueType:
    return pb.DIRECTION_BIDIRECTIONAL if recurrent.bidirectional else pb.DIRECTION_CAUSAL


def _tensor(info: TensorInfo) -> pb.TensorSpec:
    """Fixed axes are sizes; their names follow from the tensor's meaning."""
    names = _MASK_AXES if info.name.startswith("mask_") else _AXES.get(info.name, ())
    axes = names or tuple(axis if isinstance(axis, str) else "hidden" for axis in info.axes)
    shape = [axis if isinstance(axis, int) else -1 for axis in info.axes]
    return pb.TensorSpec(name=info.name, dtype=info.dtype, shape=shape, axes=axes)


_MASK_AXES = ("batch", "units")
_STATE_AXES = ("layers", "batch", "hidden")
_AXES: dict[str, tuple[str, ...]] = {
    "x": ("batch", "time", "features"),
    "x_previous": ("one", "batch", "features"),
    "x_previous_next": ("one", "batch", "features"),
    "reads": ("reads", "batch", "features"),
    "reads_next": ("reads", "batch", "features"),
    "h": _STATE_AXES,
    "c": _STATE_AXES,
    "h_next": _STATE_AXES,
    "c_next": _STATE_AXES,
    "output": ("batch", "time", "hidden"),
    "quantiles": ("batch", "time", "horizon", "targets", "quantiles"),
    **dict.fromkeys(("loc", "scale", "mean"), ("batch", "time", "horizon", "targets")),
    "probabilities": ("batch", "time", "labels"),
    "sentence_probabilities": ("batch", "labels"),
    "log_probabilities": ("batch", "time", "vocabulary"),
}


def _states(graph: GraphBuilder) -> list[pb.StateSpec]:
    outputs = {info.name for info in graph.outputs}
    return [
        pb.StateSpec(
            input=info.name,
            output=f"{info.name}_next",
            shape=[axis if isinstance(axis, int) else -1 for axis in info.axes],
            initial_value=_INITIAL_VALUES.get(info.name, 0.0),
        )
        for info in graph.inputs
        if f"{info.name}_next" in outputs
    ]


def _forecast(model: Forecaster) -> pb.ForecastSpec:
    columns = zip(model.format.features, model.format.units, strict=True)
    return pb.ForecastSpec(
        features=[pb.Feature(name=name, unit=unit) for name, unit in columns],
        targets=model.format.targets,
        horizon=model.horizon,
        frequency=model.format.frequency,
        quantile_levels=model.quantile_levels,
        scaler=pb.Scaler(
            center=model.center.tolist(),
            scale=model.scale.tolist(),
            differenced=[bool(flag) for flag in model.differenced.tolist()],
            level=model.level.tolist(),
        ),
        head=_head(model.head),
        segment=model.segments.length if model.segments.length > 1 else 0,
        channel_independent=model.segments.channel_independent,
        lags=model.segments.lags,
    )


def _head(head: Head) -> pb.Head:
    spec = pb.Head(name=head.name)
    match head:
        case QuantileHead():
            spec.steps = head.steps
        case StudentTHead():
            spec.degrees_of_freedom.extend(head.df.flatten().tolist())
        case NegativeBinomialHead():
            spec.dispersion.extend(head.dispersion.tolist())
            spec.largest_count = head.largest_count
    return spec


def _labelling(model: Labeller) -> pb.LabellingSpec:
    spec = pb.LabellingSpec(
        label_names=model.label_names,
        words=model.words,
        lower_case=model.lower_case,
        vocabulary_digest=vocabulary_digest(model.words),
    )
    if model.label_names:
        spec.decoder = pb.DECODER_SOFTMAX if model.crf is None else pb.DECODER_CRF
    if model.pooling is not None:
        spec.sentence_label_names.extend(model.sentence_label_names)
        spec.pooling = _POOLINGS[type(model.pooling)]
    if model.characters is not None:
        spec.characters.CopyFrom(_characters(model.characters))
    return spec


def _language_model(model: LanguageModel) -> pb.LanguageModelSpec:
    is_word = model.unit == "word"
    return pb.LanguageModelSpec(
        vocabulary=model.vocabulary,
        vocabulary_digest=vocabulary_digest(model.vocabulary),
        unit=pb.TEXT_UNIT_WORD if is_word else pb.TEXT_UNIT_CHARACTER,
        tied=model.tied,
    )


def _characters(encoder: CharacterEncoder) -> pb.Characters:
    recurrent = encoder.recurrent
    return pb.Characters(
        characters=encoder.characters,
        max_characters=encoder.max_characters,
        normalization=encoder.normalization,
        network=_network(recurrent),
        direction=_direction(recurrent),
        regularizers=[_regularizer(one, recurrent) for one in recurrent.regularizers],
        contract=_CONTRACTS[network_contract(recurrent)],
    )


def _regularizer(one: Regularizer, recurrent: Recurrent) -> pb.RegularizerSpec:
    return pb.RegularizerSpec(
        name=one.name,
        contract=_CONTRACTS[regularizer_contract(one, recurrent)],
        rates=one.rates,
        options=one.options,
    )


def _versions() -> dict[str, Any]:
    installed = {}
    for package in _PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            # One of the two builds of ONNX Runtime is always absent.
            continue
    return installed
