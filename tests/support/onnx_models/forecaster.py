"""A causal forecaster, and one whose file is wrong.

Legend: T time, B batch, F features, H hidden.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from support.onnx_models.graph import GraphBuilder
from tidegate.v1 import model_spec_pb2 as pb

CELLS = {"lstm": pb.CELL_LSTM, "gru": pb.CELL_GRU}


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


def crashing() -> onnx.ModelProto:
    """One number of a good file is wrong, and ONNX Runtime 1.31 ends the process that loads it."""
    model = forecaster("gru", seed=99)
    (split,) = (node for node in model.graph.node if node.op_type == "Split")
    (count,) = (one for one in split.attribute if one.name == "num_outputs")
    count.i = 1
    return model


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
