"""A forecaster as a graph: raw x, lengths and states in; quantiles and the next states out.

Dimensions: B batch, T time, F features, L layers, H hidden.
"""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tidegate.train.export.graph import GraphBuilder
from tidegate.train.export.heads import add_head
from tidegate.train.export.joints import state_inputs, state_outputs
from tidegate.train.export.layers import add_causal_stack
from tidegate.train.export.segments import add_segments, segment_inputs, segment_outputs
from tidegate.train.export.weights import to_numpy
from tidegate.train.forecaster import Forecaster
from tidegate.train.heads import NegativeBinomialHead, QuantileHead
from tidegate.train.recurrent import Recurrent

# A few roundings of float32.
_NEAR = 1e-6


def build_forecaster(model: Forecaster, graph: GraphBuilder) -> GraphBuilder:
    """Raw x, lengths and states in; raw quantiles and the next states out."""
    recurrent = model.recurrent
    features = len(model.format.features)
    x = graph.input("x", "float32", ("batch", "time", features))
    lengths = graph.input("lengths", "int32", ("batch",))
    segmented = model.reads_segments
    states = segment_inputs(graph, model) if segmented else state_inputs(graph, recurrent)
    read = graph.transpose(x, (1, 0, 2))
    if model.carries_last_value:
        x_previous = graph.input("x_previous", "float32", (1, "batch", features))
        known = graph.add("Concat", x_previous, read, axis=0)
        centered = _changed(graph, model, read, known)
    else:
        centered = graph.add("Sub", read, graph.constant(to_numpy(model.center)))
    # Reads of segments are state too, and so in PyTorch's units.
    folds_scale = graph.folds_scale and not segmented
    if not folds_scale:
        centered = graph.add("Div", centered, graph.constant(to_numpy(model.scale)))
    if segmented:
        hidden, new = add_segments(graph, model, centered, lengths, states)
    else:
        reading = _reading(recurrent, model.scale) if folds_scale else recurrent
        hidden, new = add_causal_stack(graph, reading, centered, lengths, states)
    quantiles, parameters = add_head(graph, model, hidden, x)
    shape = (model.horizon, len(model.format.targets))
    axes = ("batch", "time", *shape, len(model.quantile_levels))
    graph.output(quantiles, "quantiles", "float32", axes)
    for name, value in parameters.items():
        graph.output(value, name, "float32", ("batch", "time", *shape))
    if segmented:
        segment_outputs(graph, model, new)
    else:
        state_outputs(graph, recurrent, new)
    if model.carries_last_value:
        last = _last(graph, known, lengths, features)
        graph.output(last, "x_previous_next", "float32", (1, "batch", features))
    return graph


def _changed(graph: GraphBuilder, model: Forecaster, x: str, known: str) -> str:
    """Centered changes of the differenced features, centered values of the others, [T, B, F].

    Args:
        graph: to add to.
        model: the forecaster.
        x: [T, B, F].
        known: x with the observation before it, [1 + T, B, F].
    """
    start, stop = graph.constant([0], "int64"), graph.constant([-1], "int64")
    before = graph.add("Slice", known, start, stop, start)
    differenced = to_numpy(model.differenced) > 0
    center = to_numpy(model.center)
    if not differenced.all():
        before = graph.add(
            "Where", graph.constant(differenced, "bool"), before, graph.constant(center)
        )
    change = graph.add("Sub", x, before)
    # NaN: nothing observed yet, so nothing has changed.
    change = graph.add("Where", graph.add("IsNaN", change), graph.constant(0.0), change)
    return graph.add("Sub", change, graph.constant(np.where(differenced, center, 0)))


def _reading(recurrent: Recurrent, scale: Tensor) -> Recurrent:
    """The network with 1 / scale inside its first weights, which saves a node a step."""
    scaled = copy.deepcopy(recurrent)
    with torch.no_grad():
        scaled.weights(0, 0).weight_ih.div_(scale)
    return scaled


def _last(graph: GraphBuilder, known: str, lengths: str, features: int) -> str:
    """Each row's last real step as [1, B, F], of x with the observation before it."""
    index = graph.reshape(lengths, (1, -1, 1))
    if features > 1:
        index = graph.add("Expand", index, graph.constant([1, 1, features], "int64"))
    return graph.add("GatherElements", known, index, axis=0)


def run_forecaster(
    model: Forecaster,
    x: Tensor,
    lengths: Tensor,
    states: tuple[Tensor, ...],
    found: Mapping[str, NDArray[Any]],
) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
    """PyTorch's outputs and next states, for the parity gate.

    A quantile of counts is a whole number: where the mean lies within a rounding of
    a threshold, the file may be one off. So the file's own mean is compared, and
    its quantiles with those of means a little below and above it.
    """
    distribution, new = model.distribution(x, lengths, states)
    if isinstance(model.head, QuantileHead):
        return {"quantiles": model.quantiles(distribution)}, new
    if not isinstance(model.head, NegativeBinomialHead):
        return {"quantiles": model.quantiles(distribution), **distribution}, new
    mean = torch.from_numpy(found["mean"]).to(distribution["mean"].dtype)
    low, high = (model.quantiles({"mean": mean * (1 + off)}) for off in (-_NEAR, _NEAR))
    quantiles = torch.from_numpy(found["quantiles"]).to(low.dtype).clamp(low, high)
    return {"quantiles": quantiles, **distribution}, new
