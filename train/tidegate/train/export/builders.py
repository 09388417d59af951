"""Turns each kind of model into a graph.

Dimensions: B batch, T time, F features, K targets, Q quantiles, L layers,
D directions, H hidden.
"""

from torch import nn

from tidegate.train.export.graph import INT64, GraphBuilder
from tidegate.train.export.joints import STATE_NAMES
from tidegate.train.export.layers import add_stack
from tidegate.train.export.weights import to_numpy
from tidegate.train.forecaster import Forecaster
from tidegate.train.labeller import Labeller
from tidegate.train.recurrent import Recurrent

_TIME_MAJOR = (1, 0, 2)


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
    if model.carries_last_value:
        x_previous = graph.input("x_previous", "float32", (1, "batch", features))
        read = _standardized(graph, model, _changed(graph, model, x, x_previous))
    else:
        read = _standardized(graph, model, x)
    time_major = graph.transpose(read, _TIME_MAJOR)
    y, new = add_stack(graph, recurrent, time_major, lengths, states)
    quantiles = _quantiles(graph, model, graph.transpose(y, _TIME_MAJOR), x)
    shape = (model.horizon, len(model.format.targets), len(model.quantile_levels))
    graph.output(quantiles, "quantiles", "float32", ("batch", "time", *shape))
    _state_outputs(graph, recurrent, new)
    if model.carries_last_value:
        last = _last(graph, x, lengths, features)
        graph.output(last, "x_previous_next", "float32", (1, "batch", features))
    return graph


def build_labeller(model: Labeller) -> GraphBuilder:
    """Token ids and lengths in; labels and their probabilities out."""
    graph, recurrent = GraphBuilder(), model.recurrent
    tokens = graph.input("tokens", "int64", ("batch", "time"))
    lengths = graph.input("lengths", "int32", ("batch",))
    table = graph.constant(to_numpy(model.embedding.weight))
    x = graph.transpose(graph.add("Gather", table, tokens), _TIME_MAJOR)
    zeros = _zero_state(graph, recurrent, lengths)
    states = [zeros] * len(STATE_NAMES[recurrent.cell])
    y, _ = add_stack(graph, recurrent, x, lengths, states)
    logits = _linear(graph, graph.transpose(y, _TIME_MAJOR), model.head)
    labels = graph.add("ArgMax", logits, axis=-1, keepdims=0)
    graph.output(labels, "labels", "int64", ("batch", "time"))
    probabilities = graph.add("Softmax", logits, axis=-1)
    shape = ("batch", "time", len(model.label_names))
    graph.output(probabilities, "probabilities", "float32", shape)
    return graph


def _state_inputs(graph: GraphBuilder, model: Recurrent) -> list[str]:
    shape = (model.num_layers * model.num_directions, "batch", model.hidden_size)
    return [graph.input(name, "float32", shape) for name in STATE_NAMES[model.cell]]


def _state_outputs(graph: GraphBuilder, model: Recurrent, states: list[str]) -> None:
    shape = (model.num_layers * model.num_directions, "batch", model.hidden_size)
    for name, value in zip(STATE_NAMES[model.cell], states, strict=True):
        graph.output(value, f"{name}_next", "float32", shape)


def _zero_state(graph: GraphBuilder, model: Recurrent, lengths: str) -> str:
    """Zeros [L*D, B, H]."""
    batch = graph.add("Shape", lengths)
    layers = graph.constant([model.num_layers * model.num_directions], "int64")
    width = graph.constant([model.hidden_size], "int64")
    shape = graph.add("Concat", layers, batch, width, axis=0)
    return graph.add("Expand", graph.constant([[[0.0]]]), shape)


def _changed(graph: GraphBuilder, model: Forecaster, x: str, x_previous: str) -> str:
    """Subtracts the observation before from the differenced features."""
    earlier = graph.add(
        "Slice",
        x,
        graph.constant([0], "int64"),
        graph.constant([-1], "int64"),
        graph.constant([1], "int64"),
    )
    first = graph.transpose(x_previous, _TIME_MAJOR)
    before = graph.add("Concat", first, earlier, axis=1)
    # NaN: nothing observed yet, so nothing has changed.
    before = graph.add("Where", graph.add("IsNaN", before), x, before)
    shift = graph.add("Mul", before, graph.constant(to_numpy(model.differenced)))
    return graph.add("Sub", x, shift)


def _standardized(graph: GraphBuilder, model: Forecaster, x: str) -> str:
    centered = graph.add("Sub", x, graph.constant(to_numpy(model.center)))
    return graph.add("Div", centered, graph.constant(to_numpy(model.scale)))


def _quantiles(graph: GraphBuilder, model: Forecaster, hidden: str, x: str) -> str:
    """The equations of Forecaster: [B, T, horizon, K, Q]."""
    targets, levels = len(model.format.targets), len(model.quantile_levels)
    raw = _linear(graph, hidden, model.head)
    raw = graph.reshape(raw, (0, 0, model.horizon, targets, levels))
    change = raw
    if levels > 1:
        sizes = graph.constant([1, levels - 1], "int64")
        middle, steps = graph.add_many("Split", [raw, sizes], 2, axis=-1)
        spread = graph.constant(to_numpy(model.spread))
        away = graph.add("MatMul", _squareplus(graph, steps), spread)
        change = graph.add("Add", middle, away)
    scale = graph.constant(to_numpy(model.target_scale)[:, None])
    columns = graph.constant(model.target_index.tolist(), "int64")
    last_value = graph.add("Gather", x, columns, axis=2)
    last_value = graph.add("Unsqueeze", last_value, graph.constant([2, 4], "int64"))
    return graph.add("Add", last_value, graph.add("Mul", change, scale))


def _squareplus(graph: GraphBuilder, x: str) -> str:
    """(x + sqrt(x^2 + 4)) / 2."""
    inner = graph.add("Add", graph.add("Mul", x, x), graph.constant(4.0))
    return graph.add("Mul", graph.add("Add", x, graph.add("Sqrt", inner)), graph.constant(0.5))


def _last(graph: GraphBuilder, x: str, lengths: str, features: int) -> str:
    """Each row's last real step, [1, B, F]."""
    index = graph.add("Sub", graph.add("Cast", lengths, to=INT64), graph.constant(1, "int64"))
    index = graph.reshape(index, (-1, 1, 1))
    index = graph.add("Expand", index, graph.constant([1, 1, features], "int64"))
    return graph.transpose(graph.add("GatherElements", x, index, axis=1), _TIME_MAJOR)


def _linear(graph: GraphBuilder, x: str, layer: nn.Linear) -> str:
    product = graph.add("MatMul", x, graph.constant(to_numpy(layer.weight).T))
    return graph.add("Add", product, graph.constant(to_numpy(layer.bias)))
