"""A stack whose inference is an expectation, which no plain operator can express.

Zoneout's inference mixes old and new states at fixed rates (Krueger et al.
2016, arXiv 1606.01305). The effective gate is z + (1 - z) sigma(a), which an
ONNX LSTM or GRU cannot put on one gate alone. An If takes the step itself for
one time step, and a Scan over the same step for more: both give the same bits.

Dimensions: T time, B batch, I input size, G gates, H hidden, D directions.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import TypeAlias

import onnx

from tidegate.train.export.contract import Rates
from tidegate.train.export.graph import INT64, GraphBuilder
from tidegate.train.export.joints import STATE_NAMES, SUFFIXES, joined, masked, merged, split
from tidegate.train.export.mc_masks import hidden_name, input_name
from tidegate.train.export.step import StepGraph
from tidegate.train.export.weights import step_weights
from tidegate.train.recurrent import Recurrent

# By layer and direction.
LayerRates: TypeAlias = Mapping[tuple[int, int], Rates]


def add_expectation(
    graph: GraphBuilder,
    recurrent: Recurrent,
    x: str,
    lengths: str,
    states: list[str],
    rates: LayerRates,
    masks: Collection[str],
) -> tuple[str, list[str]]:
    """Adds all layers; arguments and result as for :func:`layers.add_stack`."""
    names = STATE_NAMES[recurrent.cell]
    branches = []
    for prefix, build in (("step_", _one_step), ("sequence_", _sequence)):
        branch = graph.inner(prefix)
        output, new = build(branch, recurrent, x, lengths, states, rates, masks)
        layers = recurrent.num_layers * recurrent.num_directions
        width = recurrent.output_size
        branch.output(output, f"{prefix}output", "float32", ("time", "batch", width))
        for name, value in zip(names, new, strict=True):
            shape = (layers, "batch", recurrent.hidden_size)
            branch.output(value, f"{prefix}{name}_next", "float32", shape)
        branches.append(branch.body(f"{prefix}branch"))
    time = graph.add("Shape", x, start=0, end=1)
    is_step = graph.add("Equal", time, graph.constant([1], "int64"))
    output, *new = graph.add_many(
        "If", [is_step], 1 + len(names), then_branch=branches[0], else_branch=branches[1]
    )
    return output, new


def _one_step(
    graph: GraphBuilder,
    recurrent: Recurrent,
    x: str,
    _lengths: str,
    states: list[str],
    rates: LayerRates,
    masks: Collection[str],
) -> tuple[str, list[str]]:
    """T is 1, so every row is real."""
    sides: list[str] = []
    after: list[list[str]] = []
    for layer, direction, before in _cells(graph, recurrent, states):
        step = _step(recurrent, layer, direction, rates[layer, direction], masks)
        read = masked(graph, x, input_name(layer, direction), masks)
        new = step.add(graph, step.input_gates(graph, read), before)
        after.append(new)
        sides.append(new[0])
        if len(sides) == recurrent.num_directions:
            x, sides = merged(graph, recurrent, layer, sides), []
    return x, [joined(graph, parts) for parts in zip(*after, strict=True)]


def _sequence(
    graph: GraphBuilder,
    recurrent: Recurrent,
    x: str,
    lengths: str,
    states: list[str],
    rates: LayerRates,
    masks: Collection[str],
) -> tuple[str, list[str]]:
    real = _real_steps(graph, x, lengths)
    sides: list[str] = []
    after: list[list[str]] = []
    for layer, direction, before in _cells(graph, recurrent, states):
        step = _step(recurrent, layer, direction, rates[layer, direction], masks)
        read = masked(graph, x, input_name(layer, direction), masks)
        *new, y = graph.add_many(
            "Scan",
            [*before, step.input_gates(graph, read), real],
            len(before) + 1,
            body=_body(graph, step, f"{recurrent.cell}_l{layer}{SUFFIXES[direction]}_"),
            num_scan_inputs=2,
            scan_input_directions=[direction, direction],
            scan_output_directions=[direction],
        )
        after.append(new)
        sides.append(graph.add("Squeeze", y, graph.constant([1], "int64")))
        if len(sides) == recurrent.num_directions:
            x, sides = merged(graph, recurrent, layer, sides), []
    # As the plain operators: 0 in padding.
    output = graph.add("Where", real, x, graph.constant(0.0))
    return output, [joined(graph, parts) for parts in zip(*after, strict=True)]


def _cells(
    graph: GraphBuilder, recurrent: Recurrent, states: list[str]
) -> Iterator[tuple[int, int, list[str]]]:
    """Every layer and direction with its states, each [1, B, H]."""
    directions = recurrent.num_directions
    cut = [split(graph, state, recurrent.num_layers * directions) for state in states]
    for index, before in enumerate(zip(*cut, strict=True)):
        yield index // directions, index % directions, list(before)


def _step(
    recurrent: Recurrent, layer: int, direction: int, rates: Rates, masks: Collection[str]
) -> StepGraph:
    weights = step_weights(
        recurrent.cell, recurrent.weights(layer, direction), reset_after=recurrent.reset_after
    )
    suffix = f"_l{layer}{SUFFIXES[direction]}"
    hidden = hidden_name(layer, direction)
    return StepGraph(recurrent.cell, weights, suffix, rates, mask=hidden if hidden in masks else "")


def _real_steps(graph: GraphBuilder, x: str, lengths: str) -> str:
    """Which steps are not padding, bool [T, B, 1]."""
    time = graph.add("Squeeze", graph.add("Shape", x, start=0, end=1))
    zero, one = graph.constant(0, "int64"), graph.constant(1, "int64")
    steps = graph.reshape(graph.add("Range", zero, time, one), (-1, 1, 1))
    rows = graph.reshape(graph.add("Cast", lengths, to=INT64), (1, -1, 1))
    return graph.add("Less", steps, rows)


def _body(outer: GraphBuilder, step: StepGraph, prefix: str) -> onnx.GraphProto:
    """The Scan's body: (h[, c], gates_t, real_t) -> (h[, c], y_t)."""
    graph, H = outer.inner(prefix), step.hidden_size
    names = STATE_NAMES[step.cell]
    old = [graph.input(prefix + name, "float32", (1, "batch", H)) for name in names]
    gates = graph.input(f"{prefix}gates", "float32", ("batch", step.gates_size))
    real = graph.input(f"{prefix}real", "bool", ("batch", 1))
    new = step.add(graph, gates, old)
    kept = [graph.add("Where", real, *pair) for pair in zip(new, old, strict=True)]
    for name, value in zip(names, kept, strict=True):
        graph.output(value, f"{prefix}{name}_new", "float32", (1, "batch", H))
    graph.output(kept[0], f"{prefix}y", "float32", (1, "batch", H))
    return graph.body(f"{prefix}step")
