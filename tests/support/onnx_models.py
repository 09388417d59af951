"""Tiny seeded models, built as the exporter builds real ones, for tests of the server.

Legend: T time, B batch, F features, H hidden, L layers, G gates, D directions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from google.protobuf import json_format
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers import float16

from tidegate.v1 import model_spec_pb2 as pb

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

GATES = {"lstm": 4, "gru": 3}
CELLS = {"lstm": pb.CELL_LSTM, "gru": pb.CELL_GRU}
ONNX_TYPES = {
    "float32": TensorProto.FLOAT,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}
WORDS = ("<padding>", "<unknown>", "the", "dog", "barks", "at", "a", "cat", "that", "sleeps")
LABELS = ("O", "NOUN", "VERB")


class GraphBuilder:
    """Collects nodes and seeded constants of one graph."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(seed)

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def weights(self, name: str, *shape: int, scale: float = 0.5) -> str:
        values = self._random.normal(0, scale, shape).astype(np.float32)
        return self.constant(name, values)

    def add(self, operator: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, list(outputs), **attributes))
        return outputs[0]

    def recurrent(
        self,
        cell: str,
        layer: int,
        x: str,
        width: int,
        hidden: int,
        states: list[str],
        *,
        bidirectional: bool = False,
    ) -> tuple[str, list[str]]:
        """Adds one LSTM or GRU node. x [T, B, width] -> y [T, D, B, H] and next states."""
        directions, gates = 1 + bidirectional, GATES[cell]
        prefix = f"{cell}_{layer}"
        inputs = [
            x,
            self.weights(f"{prefix}_W", directions, gates * hidden, width),
            self.weights(f"{prefix}_R", directions, gates * hidden, hidden),
            self.weights(f"{prefix}_B", directions, 2 * gates * hidden),
            "lengths",
            *states,
        ]
        outputs = [f"{prefix}_Y", f"{prefix}_h"] + ([f"{prefix}_c"] if cell == "lstm" else [])
        attributes: dict[str, Any] = {
            "hidden_size": hidden,
            "direction": "bidirectional" if bidirectional else "forward",
        }
        if cell == "gru":
            attributes["linear_before_reset"] = 1
        self.add(cell.upper(), inputs, *outputs, **attributes)
        return outputs[0], outputs[1:]

    def model(self, spec: pb.ModelSpec) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "tiny",
            [_value_info(tensor) for tensor in spec.inputs],
            [_value_info(tensor) for tensor in spec.outputs],
            self.initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
        set_spec(model, json_format.MessageToJson(spec))
        onnx.checker.check_model(model, full_check=True)
        return model


def set_spec(model: onnx.ModelProto, text: str) -> None:
    """Puts any text where the server looks for the spec."""
    helper.set_model_props(model, {"tidegate.spec": text})


def spec_of(model: onnx.ModelProto) -> pb.ModelSpec:
    text = next(p.value for p in model.metadata_props if p.key == "tidegate.spec")
    return json_format.Parse(text, pb.ModelSpec())


def crashing() -> onnx.ModelProto:
    """One number of a good file is wrong, and ONNX Runtime 1.31 ends the process that loads it."""
    model = forecaster("gru", seed=99)
    (split,) = (node for node in model.graph.node if node.op_type == "Split")
    (count,) = (one for one in split.attribute if one.name == "num_outputs")
    count.i = 1
    return model


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in float16, with its inputs, outputs and states."""
    spec = spec_of(model)
    for tensor in (*spec.inputs, *spec.outputs):
        if tensor.dtype == "float32":
            tensor.dtype = "float16"
    halved: onnx.ModelProto = float16.convert_float_to_float16(model, keep_io_types=False)
    set_spec(halved, json_format.MessageToJson(spec))
    return halved


def save(model: onnx.ModelProto, models: Path, name: str, version: str = "1") -> Path:
    """Writes `<models>/<name>/<version>/model.onnx` and returns its path."""
    path = models / name / version / "model.onnx"
    path.parent.mkdir(parents=True)
    onnx.save(model, path)
    return path


def forecaster(
    cell: str = "gru",
    *,
    seed: int = 0,
    features: int = 3,
    hidden: int = 16,
    layers: int = 2,
    horizon: int = 4,
    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9),
    differenced: bool = False,
    allow_missing: bool = False,
    explosive: bool = False,
    looks_ahead: bool = False,
) -> onnx.ModelProto:
    """A causal forecaster of the first feature, with every output and state declared.

    An explosive one adds exp(x) to its forecasts, which is infinite from 89 on.
    One that looks ahead reads each window's last row at every step.
    """
    graph = GraphBuilder(seed)
    spec = _forecast_spec(cell, features, hidden, layers, horizon, quantiles)
    for feature in spec.forecast.features:
        feature.allow_missing = allow_missing
    if differenced:
        spec.states.add(
            input="x_previous",
            output="x_previous_next",
            shape=[1, -1, features],
            initial_value=float("nan"),
        )
        spec.forecast.scaler.differenced.extend([True] * features)
    for state in spec.states:
        axes = ["layers", "batch", "hidden"]
        spec.inputs.add(name=state.input, dtype="float32", shape=state.shape, axes=axes)
        spec.outputs.add(name=state.output, dtype="float32", shape=state.shape, axes=axes)

    x = graph.add("Transpose", ["x"], "x_time_major", perm=[1, 0, 2])  # [T, B, F]
    if looks_ahead:
        last = graph.constant("ahead_last", np.array(-1, np.int64))
        graph.add("Gather", [x, last], "x_ahead", axis=0)
        x = graph.add("Add", [x, "x_ahead"], "x_with_future")
    if allow_missing:
        x = _zero_where_nan(graph, x, "x_filled")
    if differenced:
        x = _difference(graph, x)
    y = _causal_stack(graph, cell, x, features, hidden, layers)
    _quantile_head(graph, y, hidden, horizon, len(quantiles), explosive=explosive)
    return graph.model(spec)


def labeller(
    *,
    seed: int = 0,
    hidden: int = 8,
    embedding: int = 6,
    lower_case: bool = True,
    bidirectional: bool = True,
    characters: bool = False,
) -> onnx.ModelProto:
    """An LSTM over words, one label for each; with characters, over their number too."""
    graph = GraphBuilder(seed)
    spec = pb.ModelSpec(
        spec_version=1,
        task=pb.TASK_LABELLING,
        direction=pb.DIRECTION_BIDIRECTIONAL if bidirectional else pb.DIRECTION_CAUSAL,
        network=pb.Network(cell=pb.CELL_LSTM, num_layers=1, hidden_size=hidden, merge="concat"),
        labelling=pb.LabellingSpec(label_names=LABELS, words=WORDS, lower_case=lower_case),
        contract=pb.INFERENCE_CONTRACT_IDENTITY,
    )
    tokens = ["batch", "time"]
    spec.inputs.add(name="tokens", dtype="int64", shape=[-1, -1], axes=tokens)
    spec.inputs.add(name="lengths", dtype="int32", shape=[-1], axes=["batch"])
    spec.outputs.add(name="labels", dtype="int64", shape=[-1, -1], axes=tokens)
    spec.outputs.add(
        name="probabilities",
        dtype="float32",
        shape=[-1, -1, len(LABELS)],
        axes=[*tokens, "labels"],
    )
    directions = 1 + bidirectional
    table = graph.weights("embedding", len(WORDS), embedding)
    x = graph.add("Gather", [table, "tokens"], "embedded")
    if characters:
        x = _with_characters(graph, spec, x)
        embedding += 1
    graph.add("Transpose", [x], "x_time_major", perm=[1, 0, 2])
    y, _ = graph.recurrent(
        "lstm", 0, "x_time_major", embedding, hidden, [], bidirectional=bidirectional
    )
    graph.add("Transpose", [y], "y_batch_major", perm=[2, 0, 1, 3])  # [B, T, D, H]
    shape = graph.constant("y_shape", np.array([0, 0, directions * hidden], np.int64))
    graph.add("Reshape", ["y_batch_major", shape], "merged")
    graph.add("MatMul", ["merged", graph.weights("head", directions * hidden, len(LABELS))], "z")
    graph.add("Softmax", ["z"], "probabilities", axis=-1)
    graph.add("ArgMax", ["probabilities"], "labels", axis=-1, keepdims=0)
    return graph.model(spec)


def _with_characters(graph: GraphBuilder, spec: pb.ModelSpec, embedded: str) -> str:
    """Appends the sum of a word's character ids to its embedding."""
    spec.labelling.characters.characters.extend(("<padding>", "<unknown>", *"abcde"))
    spec.labelling.characters.max_characters = 4
    axes = ["batch", "time", "characters"]
    spec.inputs.add(name="chars", dtype="int64", shape=[-1, -1, -1], axes=axes)
    axis = graph.constant("characters_axis", np.array([-1], np.int64))
    graph.add("ReduceSum", ["chars", axis], "sum", keepdims=1)
    graph.add("Cast", ["sum"], "sum_float", to=TensorProto.FLOAT)
    return graph.add("Concat", [embedded, "sum_float"], "embedded_characters", axis=-1)


def _value_info(tensor: pb.TensorSpec) -> onnx.ValueInfoProto:
    shape = [
        axis if size < 0 else size for size, axis in zip(tensor.shape, tensor.axes, strict=True)
    ]
    return helper.make_tensor_value_info(tensor.name, ONNX_TYPES[tensor.dtype], shape)


def _forecast_spec(
    cell: str,
    features: int,
    hidden: int,
    layers: int,
    horizon: int,
    quantiles: tuple[float, ...],
) -> pb.ModelSpec:
    names = [f"feature_{i}" for i in range(features)]
    spec = pb.ModelSpec(
        spec_version=1,
        task=pb.TASK_FORECASTING,
        direction=pb.DIRECTION_CAUSAL,
        network=pb.Network(
            cell=CELLS[cell], num_layers=layers, hidden_size=hidden, reset_after=cell == "gru"
        ),
        forecast=pb.ForecastSpec(
            features=[pb.Feature(name=name) for name in names],
            targets=names[:1],
            horizon=horizon,
            frequency="W",
            quantile_levels=quantiles,
        ),
        contract=pb.INFERENCE_CONTRACT_IDENTITY,
    )
    spec.inputs.add(
        name="x", dtype="float32", shape=[-1, -1, features], axes=["batch", "time", "features"]
    )
    spec.inputs.add(name="lengths", dtype="int32", shape=[-1], axes=["batch"])
    spec.outputs.add(
        name="quantiles",
        dtype="float32",
        shape=[-1, -1, horizon, 1, len(quantiles)],
        axes=["batch", "time", "horizon", "targets", "quantiles"],
    )
    for state in ("h", "c") if cell == "lstm" else ("h",):
        spec.states.add(input=state, output=f"{state}_next", shape=[layers, -1, hidden])
    return spec


def _causal_stack(
    graph: GraphBuilder, cell: str, x: str, features: int, hidden: int, layers: int
) -> str:
    """x [T, B, F] -> y [T, B, H]; reads and writes the states `h` (and `c`)."""
    names = ["h", "c"] if cell == "lstm" else ["h"]
    layer_states = [[f"{name}_{i}" for name in names] for i in range(layers)]
    for j, name in enumerate(names):
        parts = [states[j] for states in layer_states]
        graph.add("Split", [name], *parts, axis=0, num_outputs=layers)
    next_states: list[list[str]] = []
    axes = graph.constant("direction_axis", np.array([1], np.int64))
    for i in range(layers):
        width = features if i == 0 else hidden
        y, following = graph.recurrent(cell, i, x, width, hidden, layer_states[i])
        x = graph.add("Squeeze", [y, axes], f"y_{i}")
        next_states.append(following)
    for j, name in enumerate(names):
        graph.add("Concat", [states[j] for states in next_states], f"{name}_next", axis=0)
    return x


def _quantile_head(
    graph: GraphBuilder, y: str, hidden: int, horizon: int, quantiles: int, *, explosive: bool
) -> None:
    """y [T, B, H] -> quantiles [B, T, horizon, 1, quantiles]."""
    width = horizon * quantiles
    graph.add("Transpose", [y], "y_batch_major", perm=[1, 0, 2])
    graph.add("MatMul", ["y_batch_major", graph.weights("head", hidden, width)], "product")
    graph.add("Add", ["product", graph.weights("head_bias", width)], "flat")
    shape = graph.constant("head_shape", np.array([0, 0, horizon, 1, quantiles], np.int64))
    flat = "flat"
    if explosive:
        graph.add("Exp", ["x"], "exploded")
        last = graph.constant("last_axis", np.array([-1], np.int64))
        graph.add("ReduceSum", ["exploded", last], "exploded_sum", keepdims=1)
        flat = graph.add("Add", [flat, "exploded_sum"], "flat_exploded")
    graph.add("Reshape", [flat, shape], "quantiles")


def _zero_where_nan(graph: GraphBuilder, x: str, name: str) -> str:
    graph.add("IsNaN", [x], f"{name}_missing")
    zero = graph.constant(f"{name}_zero", np.zeros((), np.float32))
    return graph.add("Where", [f"{name}_missing", zero, x], name)


def _difference(graph: GraphBuilder, x: str) -> str:
    """x_t - x_{t-1}, 0 where nothing came before; keeps the last row in `x_previous`."""
    start = graph.constant("row_0", np.array([0], np.int64))
    axis = graph.constant("time_axis", np.array([0], np.int64))
    last = graph.constant("row_last", np.array([-1], np.int64))
    graph.add("Slice", [x, start, last, axis], "x_but_last")
    graph.add("Concat", ["x_previous", "x_but_last"], "x_before", axis=0)
    graph.add("Sub", [x, "x_before"], "change")
    # The last row of each sequence, found by its own length: [B] -> [B, 1] indices.
    one = graph.constant("one", np.array(1, np.int32))
    graph.add("Sub", ["lengths", one], "last_row")
    graph.add("Cast", ["last_row"], "last_row_int64", to=TensorProto.INT64)
    graph.add("Unsqueeze", ["last_row_int64", last], "last_row_column")
    graph.add("Transpose", [x], "x_batch_major", perm=[1, 0, 2])
    graph.add("GatherND", ["x_batch_major", "last_row_column"], "x_last", batch_dims=1)
    graph.add("Unsqueeze", ["x_last", start], "x_previous_next")
    return _zero_where_nan(graph, "change", "change_filled")
