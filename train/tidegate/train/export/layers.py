"""A recurrent stack as graph nodes: one plain operator for each layer, or an expectation.

Dimensions: T time, B batch, H hidden, D directions. Values are time-major
[T, B, width], as the operators' layout 0 asks for.
"""

from collections.abc import Collection

import numpy as np

from tidegate.train.export.contract import OPERATORS, step_rates
from tidegate.train.export.expectation import add_expectation
from tidegate.train.export.graph import GraphBuilder
from tidegate.train.export.joints import joined, masked, merged, split
from tidegate.train.export.mc_masks import OUTPUT, input_name, mask_inputs
from tidegate.train.export.weights import operator_weights
from tidegate.train.recurrent import Recurrent


def add_stack(
    graph: GraphBuilder, recurrent: Recurrent, x: str, lengths: str, states: list[str]
) -> tuple[str, list[str]]:
    """Adds all layers.

    Args:
        graph: to add to.
        recurrent: the network.
        x: [T, B, I].
        lengths: int32 [B].
        states: h, and c for the LSTM, each [L*D, B, H].

    Returns:
        The output [T, B, output_size], 0 in padding, and the next states like
        ``states``.
    """
    masks = _declared_masks(graph, recurrent)
    rates = step_rates(recurrent, mc_masks=graph.mc_masks)
    if rates is not None:
        y, new = add_expectation(graph, recurrent, x, lengths, states, rates, masks)
    else:
        y, new = _add_operators(graph, recurrent, x, lengths, states, masks)
        y = _merged(graph, recurrent, recurrent.num_layers - 1, y)
    return masked(graph, y, OUTPUT, masks), new


def add_causal_stack(
    graph: GraphBuilder, recurrent: Recurrent, x: str, lengths: str, states: list[str]
) -> tuple[str, list[str]]:
    """As :func:`add_stack`, of one direction, with the output batch first: [B, T, 1, H].

    The axis of the direction costs a node to drop, and a product takes it as it is.
    """
    masks = _declared_masks(graph, recurrent)
    rates = step_rates(recurrent, mc_masks=graph.mc_masks)
    if rates is not None:
        y, new = add_expectation(graph, recurrent, x, lengths, states, rates, masks)
        y = graph.add("Unsqueeze", y, graph.constant([1], "int64"))
    else:
        y, new = _add_operators(graph, recurrent, x, lengths, states, masks)
    y = masked(graph, y, OUTPUT, masks)
    return graph.transpose(y, (2, 0, 1, 3)), new


def _declared_masks(graph: GraphBuilder, recurrent: Recurrent) -> frozenset[str]:
    """The names of the masks of Monte Carlo inference, each an input [B, width]."""
    if not graph.mc_masks:
        return frozenset()
    inputs = mask_inputs(recurrent).values()
    return frozenset(graph.input(one.name, "float32", ("batch", one.width)) for one in inputs)


def _add_operators(
    graph: GraphBuilder,
    recurrent: Recurrent,
    x: str,
    lengths: str,
    states: list[str],
    masks: Collection[str],
) -> tuple[str, list[str]]:
    """A plain operator for each layer: the top one's Y [T, D, B, H] and the next states."""
    cut = [split(graph, state, recurrent.num_layers) for state in states]
    new: list[list[str]] = []
    y = ""
    for layer in range(recurrent.num_layers):
        if layer:
            x = _merged(graph, recurrent, layer - 1, y)
        x = masked(graph, x, input_name(layer, 0), masks)
        before = [parts[layer] for parts in cut]
        y, after = _add_operator(graph, recurrent, layer, x, lengths, before)
        new.append(after)
    return y, [joined(graph, parts) for parts in zip(*new, strict=True)]


def _add_operator(
    graph: GraphBuilder,
    recurrent: Recurrent,
    layer: int,
    x: str,
    lengths: str,
    states: list[str],
) -> tuple[str, list[str]]:
    """One LSTM, GRU or RNN node: Y [T, D, B, H] and the next states [D, B, H]."""
    directions = range(recurrent.num_directions)
    weights = [operator_weights(recurrent.cell, recurrent.weights(layer, d)) for d in directions]
    tensors = [
        graph.constant(np.stack(parts), name=f"{name}_l{layer}")
        for name, parts in zip("WRB", zip(*weights, strict=True), strict=True)
    ]
    attributes: dict[str, int | str] = {
        "hidden_size": recurrent.hidden_size,
        "direction": "bidirectional" if recurrent.bidirectional else "forward",
    }
    if recurrent.cell == "gru":
        attributes["linear_before_reset"] = int(recurrent.reset_after)
    y, *after = graph.add_many(
        OPERATORS[recurrent.cell],
        [x, *tensors, lengths, *states],
        1 + len(states),
        **attributes,
    )
    return y, after


def _merged(graph: GraphBuilder, recurrent: Recurrent, layer: int, y: str) -> str:
    """[T, D, B, H] to [T, B, output_size]."""
    if not recurrent.bidirectional:
        return graph.add("Squeeze", y, graph.constant([1], "int64"))
    if recurrent.merge == "concat":
        by_batch = graph.transpose(y, (0, 2, 1, 3))
        return graph.reshape(by_batch, (0, 0, -1))
    axis = graph.constant([1], "int64")
    sides = graph.add_many("Split", [y], 2, axis=1, num_outputs=2)
    return merged(graph, recurrent, layer, [graph.add("Squeeze", side, axis) for side in sides])
