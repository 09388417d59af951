"""A recurrent stack as graph nodes: one operator for each layer, or a Scan.

Dimensions: T time, B batch, H hidden, D directions. Values are time-major
[T, B, width], as the operators' layout 0 asks for.
"""

import numpy as np

from tidegate.train.export.graph import GraphBuilder
from tidegate.train.export.scan import add_scan
from tidegate.train.export.weights import operator_weights, to_numpy
from tidegate.train.masks import LayerMasks, expectation
from tidegate.train.recurrent import Recurrent
from tidegate.train.regularizers import Contract, Zoneout, find

_OPERATORS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
STATE_NAMES = {"lstm": ("h", "c"), "gru": ("h",), "rnn": ("h",)}


def zones(recurrent: Recurrent) -> LayerMasks | None:
    """Zoneout's rates where they change the inference; None: a plain operator does."""
    zoneout = find(recurrent.regularizers, Zoneout)
    if zoneout is None:
        return None
    rates = expectation(zoneout, recurrent.cell)
    return None if rates == LayerMasks() else rates


def inference_contract(recurrent: Recurrent) -> Contract:
    """How the graph follows from the trained weights."""
    return Contract.IDENTITY if zones(recurrent) is None else Contract.EXPECTATION


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
        The output [T, B, output_size], and the next states like ``states``.
    """
    split = [_split(graph, state, recurrent) for state in states]
    rates = zones(recurrent)
    new: list[list[str]] = []
    for layer in range(recurrent.num_layers):
        before = [parts[layer] for parts in split]
        if rates is None:
            y, after = _add_operator(graph, recurrent, layer, x, lengths, before)
        else:
            y, after = add_scan(graph, recurrent, layer, x, lengths, before, rates)
        x = _merged(graph, recurrent, layer, y)
        new.append(after)
    return x, [_joined(graph, parts) for parts in zip(*new, strict=True)]


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
    tensors = [graph.constant(np.stack(parts)) for parts in zip(*weights, strict=True)]
    attributes: dict[str, int | str] = {
        "hidden_size": recurrent.hidden_size,
        "direction": "bidirectional" if recurrent.bidirectional else "forward",
    }
    if recurrent.cell == "gru":
        attributes["linear_before_reset"] = int(recurrent.reset_after)
    y, *after = graph.add_many(
        _OPERATORS[recurrent.cell],
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
    sides = graph.add_many("Split", [y], 2, axis=1, num_outputs=2)
    products = [
        graph.add(
            "MatMul",
            graph.add("Squeeze", side, graph.constant([1], "int64")),
            graph.constant(to_numpy(recurrent.merge_weight(layer, direction)).T),
        )
        for direction, side in enumerate(sides)
    ]
    return graph.add("Add", *products)


def _split(graph: GraphBuilder, state: str, recurrent: Recurrent) -> list[str]:
    """[L*D, B, H] to L times [D, B, H]."""
    layers = recurrent.num_layers
    if layers == 1:
        return [state]
    return graph.add_many("Split", [state], layers, axis=0, num_outputs=layers)


def _joined(graph: GraphBuilder, parts: tuple[str, ...]) -> str:
    return parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=0)
