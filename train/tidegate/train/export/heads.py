"""The heads of a forecaster as graph nodes.

Dimensions: B batch, T time, H hidden, K targets, Q quantiles, N largest count.
"""

from typing import NamedTuple

import numpy as np

from tidegate.train.export.graph import FLOAT32, GraphBuilder
from tidegate.train.export.weights import Array, to_numpy
from tidegate.train.forecaster import Forecaster
from tidegate.train.heads import NegativeBinomialHead, QuantileHead, StudentTHead
from tidegate.train.heads.negative_binomial import MIN_MEAN
from tidegate.train.heads.student_t import MIN_SCALE


class HeadValues(NamedTuple):
    """What a head computes.

    Attributes:
        quantiles: [B, T, horizon, K, Q].
        parameters: of the distribution by name, each [B, T, horizon, K].
    """

    quantiles: str
    parameters: dict[str, str]


def add_head(graph: GraphBuilder, model: Forecaster, hidden: str, x: str) -> HeadValues:
    """Adds the head of a forecaster.

    Args:
        graph: to add to.
        model: the forecaster.
        hidden: [B, T, 1, H], for a shared map [B, T, K, H].
        x: raw observations, [B, T, F].

    Raises:
        TypeError: the head is of another kind.
    """
    match model.head:
        case QuantileHead(steps="absolute"):
            values = HeadValues(_absolute(graph, model, hidden, x), {})
        case QuantileHead():
            values = HeadValues(_squareplus_steps(graph, model, hidden, x), {})
        case StudentTHead() as head:
            values = _student_t(graph, model, head, hidden, x)
        case NegativeBinomialHead() as head:
            values = _negative_binomial(graph, model, head, hidden)
        case _:
            raise TypeError(f"model.head is a {type(model.head).__name__}, which has no graph")
    if not model.offsets.any():
        return values
    offsets = graph.constant(to_numpy(model.offsets), name="quantile_offsets")
    moved = graph.add("Add", values.quantiles, offsets)
    return values._replace(quantiles=_ascending(graph, model, moved))


def _ascending(graph: GraphBuilder, model: Forecaster, quantiles: str) -> str:
    """From the middle outward none lies nearer to the middle than the one before."""
    if not model.can_cross:
        return quantiles
    levels, middle = len(model.quantile_levels), model.middle
    parts = graph.split(quantiles, [1] * levels)
    for index in range(middle + 1, levels):
        parts[index] = graph.add("Max", parts[index - 1], parts[index])
    for index in range(middle - 1, -1, -1):
        parts[index] = graph.add("Min", parts[index], parts[index + 1])
    return graph.add("Concat", *parts, axis=-1)


def column_scale(model: Forecaster) -> Array:
    """What the graph multiplies the columns of the head's linear map by, which saves nodes.

    The column that is a change of the target's value is in raw units. So are
    absolute steps, which a factor passes through.
    """
    head = model.head
    scale = np.ones((head.shape.horizon, head.shape.targets, head.columns), np.float32)
    if isinstance(head, QuantileHead) and head.steps == "absolute":
        scale *= to_numpy(model.target_scale)[:, None]
    elif not isinstance(head, NegativeBinomialHead):
        scale[..., 0] = to_numpy(model.target_scale)
    return scale.reshape(-1)


def of_changes(weight: Array, lags: int) -> Array:
    """Weights of the last changes, of those of the distances that are their sums.

    The sum over i of w_i times the changes since i is that over changes k of the w_i up
    to k. So nothing is summed up in float32 at each step, which costs digits.

    Args:
        weight: [columns, H + m], with those of the distances at the end.
        lags: m.
    """
    summed = weight[:, weight.shape[1] - lags :].cumsum(axis=1, dtype=np.float64)
    kept = weight[:, : weight.shape[1] - lags]
    return np.concatenate([kept, summed.astype(np.float32)], axis=1)


def of_distances(weight: Array, lags: int) -> Array:
    """The inverse of :func:`of_changes`."""
    first = weight.shape[1] - lags
    apart = np.diff(weight[:, first:], axis=1, prepend=np.float32(0))
    return np.concatenate([weight[:, :first], apart], axis=1)


def _absolute(graph: GraphBuilder, model: Forecaster, hidden: str, x: str) -> str:
    # A slope of -1 takes the absolute value and one of 1 nothing. Flat, since a
    # product over three columns at a time is slow.
    columns = model.head.columns
    slopes = [1.0] + [-1.0] * (columns - 1)
    raw = _linear(graph, model, hidden)
    if columns > 1:
        repeats = len(model.head.linear.bias) // columns
        raw = graph.add("PRelu", raw, graph.constant(np.tile(slopes, repeats)))
    parts = _by_target(graph, model, raw)
    if columns > 1:
        parts = graph.add("MatMul", parts, _spread(graph, model))
    return graph.add("Add", _last_value(graph, model, x), parts)


def _squareplus_steps(graph: GraphBuilder, model: Forecaster, hidden: str, x: str) -> str:
    parts = _by_target(graph, model, _linear(graph, model, hidden))
    if model.head.columns > 1:
        middle, steps = graph.split(parts, (1, model.head.columns - 1))
        steps = _squareplus(graph, steps, to_numpy(model.target_scale)[:, None])
        parts = graph.add("Concat", middle, steps, axis=-1)
        parts = graph.add("MatMul", parts, _spread(graph, model))
    return graph.add("Add", _last_value(graph, model, x), parts)


def _student_t(
    graph: GraphBuilder, model: Forecaster, head: StudentTHead, hidden: str, x: str
) -> HeadValues:
    """The quantile is loc + scale * t(q)."""
    target_scale = to_numpy(model.target_scale)[:, None]
    parts = _by_target(graph, model, _linear(graph, model, hidden))
    change, raw = graph.split(parts, (1, 1))
    loc = graph.add("Add", _last_value(graph, model, x), change)
    least = graph.constant(MIN_SCALE * target_scale)
    scale = graph.add("Add", _squareplus(graph, raw, target_scale), least)
    away = graph.add("Mul", scale, graph.constant(to_numpy(head.standard_quantiles())))
    parameters = {"loc": _parameter(graph, loc), "scale": _parameter(graph, scale)}
    return HeadValues(graph.add("Add", loc, away), parameters)


def _negative_binomial(
    graph: GraphBuilder, model: Forecaster, head: NegativeBinomialHead, hidden: str
) -> HeadValues:
    """The quantile is how many thresholds are below the mean, counted by bisection.

    Thresholds ascend, so the count is built from its highest bit down: a bit is
    set where the threshold that it leads to is still below the mean.
    """
    level = to_numpy(model.target_level)[:, None]
    raw = _by_target(graph, model, _linear(graph, model, hidden))
    mean = _squareplus(graph, raw, level)
    mean = graph.add("Add", mean, graph.constant(MIN_MEAN * level))
    tables = head.thresholds()
    thresholds = graph.constant(tables.reshape(-1))
    # The place before a table's first threshold, for each target and quantile.
    before = np.arange(tables.shape[0] * tables.shape[1]) * head.largest_count - 1
    place = graph.constant(before.reshape(tables.shape[:2]), "int64")
    bit = (head.largest_count + 1) // 2
    while bit:
        candidate = graph.add("Add", place, graph.constant(bit, "int64"))
        passed = graph.add("Less", graph.add("Gather", thresholds, candidate), mean)
        place = graph.add("Where", passed, candidate, place)
        bit //= 2
    count = graph.add("Sub", place, graph.constant(before.reshape(tables.shape[:2]), "int64"))
    return HeadValues(graph.add("Cast", count, to=FLOAT32), {"mean": _parameter(graph, mean)})


def _linear(graph: GraphBuilder, model: Forecaster, hidden: str) -> str:
    """[B, T, 1, horizon * K * columns], of a shared map [B, T, K, horizon * columns]."""
    linear = model.head.linear
    # A map that serves all targets is in no target's units.
    rows = np.ones(1, np.float32) if model.head.shared else column_scale(model)
    weight, bias = to_numpy(linear.weight) * rows[:, None], to_numpy(linear.bias) * rows
    weight = of_changes(weight, model.segments.lags)
    product = graph.add("MatMul", hidden, graph.constant(weight.T, name="head_W"))
    return graph.add("Add", product, graph.constant(bias, name="head_B"))


def _by_target(graph: GraphBuilder, model: Forecaster, raw: str) -> str:
    """[B, T, horizon, K, columns]."""
    head = model.head
    horizon, targets = head.shape.horizon, head.shape.targets
    if not head.shared:
        return graph.reshape(raw, (0, 0, horizon, targets, head.columns))
    parts = graph.reshape(raw, (0, 0, targets, horizon, head.columns))
    scale = column_scale(model).reshape(horizon, targets, head.columns)
    return graph.add("Mul", graph.transpose(parts, (0, 1, 3, 2, 4)), graph.constant(scale[0]))


def _last_value(graph: GraphBuilder, model: Forecaster, x: str) -> str:
    """The targets' columns of x: [B, T, 1, K, 1]."""
    index = model.target_index[None, :, None]
    return graph.add("Gather", x, graph.constant(index.tolist(), "int64"), axis=2)


def _parameter(graph: GraphBuilder, value: str) -> str:
    """[B, T, horizon, K, 1] without its last axis."""
    return graph.add("Squeeze", value, graph.constant([-1], "int64"))


def _spread(graph: GraphBuilder, model: Forecaster) -> str:
    spread = model.head.get_buffer("spread")
    return graph.constant(to_numpy(spread))


def _squareplus(graph: GraphBuilder, x: str, scale: Array) -> str:
    """(x + sqrt(x^2 + 4)) / 2 * scale."""
    root = graph.add("Sqrt", graph.add("Add", graph.add("Mul", x, x), graph.constant(4.0)))
    return graph.add("Mul", graph.add("Add", x, root), graph.constant(scale / 2))
