"""Turns each kind of model into a graph.

Dimensions: B batch, T time, F features, K targets, Q quantiles, L layers,
D directions, H hidden.
"""

import copy

import numpy as np
import torch
from torch import Tensor, nn

from tidegate.train.export.graph import INT64, GraphBuilder
from tidegate.train.export.joints import STATE_NAMES
from tidegate.train.export.labelling import build_labeller
from tidegate.train.export.language_model import build_language_model
from tidegate.train.export.layers import add_stack
from tidegate.train.export.weights import Array, to_numpy
from tidegate.train.forecaster import Forecaster
from tidegate.train.labeller import Labeller
from tidegate.train.language_model import LanguageModel
from tidegate.train.recurrent import Recurrent

_TIME_MAJOR = (1, 0, 2)


def build_graph(model: nn.Module) -> GraphBuilder:
    """The graph of any model.

    Raises:
        TypeError: the model is of another kind.
    """
    if isinstance(model, Forecaster):
        return build_forecaster(model)
    if isinstance(model, Labeller):
        return build_labeller(model)
    if isinstance(model, LanguageModel):
        return build_language_model(model)
    if isinstance(model, Recurrent):
        return build_recurrent(model)
    raise TypeError(
        f"model is a {type(model).__name__}; export_onnx takes one of Recurrent, Forecaster, "
        "Labeller, LanguageModel"
    )


def build_recurrent(model: Recurrent) -> GraphBuilder:
    """x, lengths and states in; output and the next states out."""
    graph = GraphBuilder()
    x = graph.input("x", "float32", ("batch", "time", model.input_size))
    lengths = graph.input("lengths", "int32", ("batch",))
    states = _state_inputs(graph, model)
    y, new = add_stack(graph, model, graph.transpose(x, _TIME_MAJOR), lengths, states)
    output = graph.transpose(y, _TIME_MAJOR)
    graph.output(output, "output", "float32", ("batch", "time", model.output_size))
    _state_outputs(graph, model, new)
    return graph


def build_forecaster(model: Forecaster) -> GraphBuilder:
    """Raw x, lengths and states in; raw quantiles and the next states out."""
    graph, recurrent = GraphBuilder(), model.recurrent
    features = len(model.format.features)
    x = graph.input("x", "float32", ("batch", "time", features))
    lengths = graph.input("lengths", "int32", ("batch",))
    states = _state_inputs(graph, recurrent)
    rows = read = graph.transpose(x, _TIME_MAJOR)
    if model.carries_last_value:
        x_previous = graph.input("x_previous", "float32", (1, "batch", features))
        read = _changed(graph, model, rows, x_previous)
    centered = graph.add("Sub", read, graph.constant(to_numpy(model.center)))
    y, new = add_stack(graph, _reading(recurrent, model.scale), centered, lengths, states)
    quantiles = _quantiles(graph, model, graph.transpose(y, _TIME_MAJOR), x)
    shape = (model.horizon, len(model.format.targets), len(model.quantile_levels))
    graph.output(quantiles, "quantiles", "float32", ("batch", "time", *shape))
    _state_outputs(graph, recurrent, new)
    if model.carries_last_value:
        last = _last(graph, rows, lengths, features)
        graph.output(last, "x_previous_next", "float32", (1, "batch", features))
    return graph


def _state_inputs(graph: GraphBuilder, model: Recurrent) -> list[str]:
    shape = (model.num_layers * model.num_directions, "batch", model.hidden_size)
    return [graph.input(name, "float32", shape) for name in STATE_NAMES[model.cell]]


def _state_outputs(graph: GraphBuilder, model: Recurrent, states: list[str]) -> None:
    shape = (model.num_layers * model.num_directions, "batch", model.hidden_size)
    for name, value in zip(STATE_NAMES[model.cell], states, strict=True):
        graph.output(value, f"{name}_next", "float32", shape)


def _changed(graph: GraphBuilder, model: Forecaster, x: str, x_previous: str) -> str:
    """Subtracts the observation before from the differenced features, [T, B, F]."""
    start, stop = graph.constant([0], "int64"), graph.constant([-1], "int64")
    before = graph.add("Concat", x_previous, graph.add("Slice", x, start, stop, start), axis=0)
    # NaN: nothing observed yet, so nothing has changed.
    before = graph.add("Where", graph.add("IsNaN", before), x, before)
    if not model.differenced.all():
        before = graph.add("Mul", before, graph.constant(to_numpy(model.differenced)))
    return graph.add("Sub", x, before)


def _reading(recurrent: Recurrent, scale: Tensor) -> Recurrent:
    """The network with 1 / scale inside its first weights, which saves a node a step."""
    scaled = copy.deepcopy(recurrent)
    with torch.no_grad():
        scaled.weights(0, 0).weight_ih.div_(scale)
    return scaled


def _quantiles(graph: GraphBuilder, model: Forecaster, hidden: str, x: str) -> str:
    """The equations of Forecaster: [B, T, horizon, K, Q]."""
    targets, levels = len(model.format.targets), len(model.quantile_levels)
    rows = head_scale(model)
    weight, bias = to_numpy(model.head.weight), to_numpy(model.head.bias)
    raw = _linear(graph, hidden, weight * rows[:, None], bias * rows)
    raw = graph.reshape(raw, (0, 0, model.horizon, targets, levels))
    change = raw
    if levels > 1:
        middle, steps = graph.split(raw, (1, levels - 1))
        scale = to_numpy(model.target_scale)[:, None]
        spread = graph.constant(to_numpy(model.spread))
        away = graph.add("MatMul", _squareplus(graph, steps, scale), spread)
        change = graph.add("Add", middle, away)
    columns = graph.constant(model.target_index[None, :, None].tolist(), "int64")
    last_value = graph.add("Gather", x, columns, axis=2)
    return graph.add("Add", last_value, change)


def head_scale(model: Forecaster) -> Array:
    """What the graph multiplies the head's rows by: the middle quantiles' target scale."""
    targets, levels = len(model.format.targets), len(model.quantile_levels)
    scale = np.ones((model.horizon, targets, levels), np.float32)
    scale[..., 0] = to_numpy(model.target_scale)
    return scale.reshape(-1)


def _squareplus(graph: GraphBuilder, x: str, scale: Array) -> str:
    """(x + sqrt(x^2 + 4)) / 2 * scale."""
    root = graph.add("Sqrt", graph.add("Add", graph.add("Mul", x, x), graph.constant(4.0)))
    return graph.add("Mul", graph.add("Add", x, root), graph.constant(scale / 2))


def _last(graph: GraphBuilder, x: str, lengths: str, features: int) -> str:
    """Each row's last real step of [T, B, F], as [1, B, F]."""
    index = graph.add("Sub", graph.add("Cast", lengths, to=INT64), graph.constant(1, "int64"))
    index = graph.reshape(index, (1, -1, 1))
    index = graph.add("Expand", index, graph.constant([1, 1, features], "int64"))
    return graph.add("GatherElements", x, index, axis=0)


def _linear(graph: GraphBuilder, x: str, weight: Array, bias: Array) -> str:
    product = graph.add("MatMul", x, graph.constant(weight.T, name="head_W"))
    return graph.add("Add", product, graph.constant(bias, name="head_B"))
