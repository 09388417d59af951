"""The ModelSpec inside an ONNX file: read, checked against the graph, digested."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from google.protobuf import json_format

from tidegate.serve.errors import LoadError
from tidegate.v1 import model_spec_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

METADATA_KEY = "tidegate.spec"
# The newest spec_version this reader understands.
SPEC_VERSION = 1
# Bounds the work that one word may cause.
MAX_CHARACTERS = 1024
_FLOATS = ("float32", "float16")
_NORMALIZATIONS = ("", "NFC", "NFD", "NFKC", "NFKD")

_ROLES = {
    pb.TASK_FORECASTING: ({"x", "lengths"}, {"quantiles"}),
    pb.TASK_RECURRENT: ({"x", "lengths"}, {"output"}),
    pb.TASK_LANGUAGE_MODELLING: ({"tokens", "lengths"}, {"log_probabilities"}),
}
# What a head says beside quantiles; a stream carries the quantiles alone.
_PARAMETERS = {"student_t": {"loc", "scale"}, "negative_binomial": {"mean"}}


class Tensor(NamedTuple):
    """An input or output of the graph; None marks a free axis."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class StateLayout:
    """One state, as the server stores it: [layers, slots, width], float32 or float16."""

    input: str
    output: str
    layers: int
    width: int
    initial_value: float
    dtype: np.dtype[Any]

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """Its type in checkpoints: little-endian, whatever the machine."""
        return self.dtype.newbyteorder("<")

    @property
    def nbytes(self) -> int:
        """Bytes of one series' state."""
        return self.dtype.itemsize * self.layers * self.width


def spec_digest(text: str) -> bytes:
    """SHA-256 of the spec as stored in the file."""
    return hashlib.sha256(text.encode()).digest()


def read_spec(text: str) -> pb.ModelSpec:
    """Parses the JSON of a ModelSpec.

    Raises:
        LoadError: No spec of a version this server understands.
    """
    try:
        # A newer writer may use fields this reader does not know; spec_version
        # says whether that matters.
        spec = json_format.Parse(text, pb.ModelSpec(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise LoadError(f"metadata {METADATA_KEY!r} is not a ModelSpec: {error}") from error
    if spec.spec_version > SPEC_VERSION:
        raise LoadError(
            f"the file has spec_version {spec.spec_version}, this server reads up to "
            f"{SPEC_VERSION}: update tidegate on the server"
        )
    if spec.spec_version < 1:
        raise LoadError("spec_version is missing: export the model again")
    return spec


def check_spec(
    spec: pb.ModelSpec, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> tuple[StateLayout, ...]:
    """Compares the declarations with the graph and returns the states' layouts.

    Raises:
        LoadError: The spec contradicts itself or the graph.
    """
    if spec.task not in (*_ROLES, pb.TASK_LABELLING):
        raise LoadError(f"spec.task is {spec.task}, which this server does not know")
    if spec.direction not in (pb.DIRECTION_CAUSAL, pb.DIRECTION_BIDIRECTIONAL):
        raise LoadError("spec.direction is missing: causal or bidirectional")
    if spec.masks:
        raise LoadError(
            "the file takes the masks of Monte Carlo inference as inputs, for callers of ONNX "
            "Runtime that draw them: serve the same model exported without --mc-masks"
        )
    declared_inputs = {tensor.name: tensor for tensor in spec.inputs}
    declared_outputs = {tensor.name: tensor for tensor in spec.outputs}
    _check_tensors("input", declared_inputs, inputs)
    _check_tensors("output", declared_outputs, outputs)
    states = tuple(_state_layout(state, declared_inputs, declared_outputs) for state in spec.states)
    _check_roles("input", spec, declared_inputs, (state.input for state in states), 0)
    _check_roles("output", spec, declared_outputs, (state.output for state in states), 1)
    if spec.task == pb.TASK_FORECASTING:
        _check_forecast(spec, declared_inputs["x"], declared_outputs["quantiles"])
    if spec.task == pb.TASK_LABELLING:
        _check_labelling(spec.labelling, declared_outputs)
    if spec.task == pb.TASK_LANGUAGE_MODELLING:
        _check_language_model(spec, declared_outputs["log_probabilities"])
    return states


def _check_tensors(kind: str, declared: dict[str, pb.TensorSpec], actual: Sequence[Tensor]) -> None:
    names = [tensor.name for tensor in actual]
    if set(declared) != set(names):
        raise LoadError(f"the spec declares {kind}s {sorted(declared)}, the graph has {names}")
    for tensor in actual:
        spec = declared[tensor.name]
        if spec.dtype != tensor.dtype:
            raise LoadError(
                f"{kind} {tensor.name!r} is declared {spec.dtype}, the graph has {tensor.dtype}"
            )
        if len(spec.shape) != len(tensor.shape):
            raise LoadError(
                f"{kind} {tensor.name!r} is declared with rank {len(spec.shape)}, "
                f"the graph has rank {len(tensor.shape)}"
            )
        if len(spec.axes) != len(spec.shape):
            raise LoadError(
                f"{kind} {tensor.name!r} has {len(spec.axes)} names for {len(spec.shape)} axes"
            )
        for want, have in zip(spec.shape, tensor.shape, strict=True):
            if want >= 0 and have is not None and want != have:
                raise LoadError(
                    f"{kind} {tensor.name!r} is declared {list(spec.shape)}, "
                    f"the graph has {list(tensor.shape)}"
                )


def _check_roles(
    kind: str,
    spec: pb.ModelSpec,
    declared: dict[str, pb.TensorSpec],
    states: Iterable[str],
    side: int,
) -> None:
    """The graph must have the tensors of its task and its states, and no others."""
    needed = sorted([*_roles(spec)[side], *states])
    if sorted(declared) != needed:
        task = pb.Task.Name(spec.task)
        raise LoadError(f"a model of {task} needs {kind}s {needed}, not {sorted(declared)}")


def _roles(spec: pb.ModelSpec) -> tuple[set[str], set[str]]:
    """The inputs and outputs of a task, as far as they depend on what it forecasts or labels."""
    if spec.task != pb.TASK_LABELLING:
        needed, given = _ROLES[spec.task]
        return needed, given | _PARAMETERS.get(spec.forecast.head.name, set())
    labelling, inputs, outputs = spec.labelling, {"tokens", "lengths"}, set[str]()
    if labelling.HasField("characters"):
        inputs.add("chars")
    if labelling.label_names:
        outputs |= {"labels", "probabilities"}
    if labelling.sentence_label_names:
        outputs |= {"sentence_labels", "sentence_probabilities"}
    if not outputs:
        raise LoadError("spec.labelling has neither label_names nor sentence_label_names")
    return inputs, outputs


def _state_layout(
    state: pb.StateSpec, inputs: dict[str, pb.TensorSpec], outputs: dict[str, pb.TensorSpec]
) -> StateLayout:
    shape = list(state.shape)
    if len(shape) != 3 or shape[1] != -1 or shape[0] < 1 or shape[2] < 1:
        raise LoadError(f"state {state.input!r} has shape {shape}; it must be [layers, -1, width]")
    for kind, name, declared in (
        ("input", state.input, inputs),
        ("output", state.output, outputs),
    ):
        if name not in declared or declared[name].dtype not in _FLOATS:
            raise LoadError(f"state {kind} {name!r} is not a declared float32 or float16 {kind}")
        if list(declared[name].shape) != shape:
            raise LoadError(
                f"state {kind} {name!r} has shape {list(declared[name].shape)}, its state {shape}"
            )
    dtype, next_dtype = inputs[state.input].dtype, outputs[state.output].dtype
    if dtype != next_dtype:
        raise LoadError(f"state {state.input!r} is {dtype}, its next value {next_dtype}")
    return StateLayout(
        state.input, state.output, shape[0], shape[2], state.initial_value, np.dtype(dtype)
    )


def _check_forecast(spec: pb.ModelSpec, x: pb.TensorSpec, quantiles: pb.TensorSpec) -> None:
    if spec.direction != pb.DIRECTION_CAUSAL:
        raise LoadError("a forecasting model must be causal: at serving time there is no future")
    forecast = spec.forecast
    want = [-1, -1, forecast.horizon, len(forecast.targets), len(forecast.quantile_levels)]
    if not spec.states:
        raise LoadError("a forecasting model needs a state: without one, a stream forgets its past")
    for tensor in (x, quantiles):
        if tensor.dtype not in _FLOATS:
            raise LoadError(f"{tensor.name} is {tensor.dtype}; it must be float32 or float16")
    if list(x.shape) != [-1, -1, len(forecast.features)]:
        raise LoadError(f"x is declared {list(x.shape)} for {len(forecast.features)} features")
    if 0 in want or list(quantiles.shape) != want:
        raise LoadError(f"quantiles is declared {list(quantiles.shape)}, the forecast needs {want}")


def _check_labelling(labelling: pb.LabellingSpec, outputs: dict[str, pb.TensorSpec]) -> None:
    names, whole = list(labelling.label_names), list(labelling.sentence_label_names)
    if names:
        _check_probabilities(outputs["probabilities"], [-1, -1, len(names)])
    if whole:
        _check_probabilities(outputs["sentence_probabilities"], [-1, len(whole)])
    if len(labelling.words) < 2:
        raise LoadError("spec.labelling.words needs ids 0 (padding) and 1 (unknown) at least")
    if labelling.HasField("characters"):
        _check_characters(labelling.characters)


def _check_language_model(spec: pb.ModelSpec, log_probabilities: pb.TensorSpec) -> None:
    if spec.direction != pb.DIRECTION_CAUSAL:
        raise LoadError("a language model must be causal: it predicts what comes next")
    if not spec.language_model.vocabulary:
        raise LoadError("spec.language_model.vocabulary needs the id 0 (unknown) at least")
    _check_probabilities(log_probabilities, [-1, -1, len(spec.language_model.vocabulary)])


def _check_probabilities(tensor: pb.TensorSpec, want: list[int]) -> None:
    if list(tensor.shape) != want:
        raise LoadError(f"{tensor.name} is declared {list(tensor.shape)} for {want[-1]} names")


def _check_characters(characters: pb.Characters) -> None:
    name = "spec.labelling.characters"
    if len(characters.characters) < 2:
        raise LoadError(f"{name} needs ids 0 (padding) and 1 (unknown) at least")
    if not 1 <= characters.max_characters <= MAX_CHARACTERS:
        raise LoadError(
            f"{name}.max_characters is {characters.max_characters}; it must be 1 to "
            f"{MAX_CHARACTERS}, since every word may be that long"
        )
    if characters.normalization not in _NORMALIZATIONS:
        raise LoadError(
            f"{name}.normalization is {characters.normalization!r}; it must be one of "
            f"{list(_NORMALIZATIONS)}"
        )
