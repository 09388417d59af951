"""A layer as a Scan over its step, for what no plain operator can express.

Zoneout's inference mixes old and new states at fixed rates (Krueger et al.
2016, arXiv 1606.01305). The effective gate is z + (1 - z) sigma(a), which an
ONNX LSTM or GRU cannot put on one gate alone.

Dimensions: T time, B batch, I input size, G gates, H hidden, D directions.
"""

from dataclasses import dataclass

import onnx

from tidegate.train.cells import Weights
from tidegate.train.export.graph import INT64, GraphBuilder
from tidegate.train.export.weights import to_numpy
from tidegate.train.masks import LayerMasks
from tidegate.train.recurrent import Recurrent


def add_scan(
    graph: GraphBuilder,
    recurrent: Recurrent,
    layer: int,
    x: str,
    lengths: str,
    states: list[str],
    rates: LayerMasks,
) -> tuple[str, list[str]]:
    """Adds one layer, each direction as a Scan.

    Args:
        graph: to add to.
        recurrent: the network.
        layer: from 0.
        x: [T, B, I].
        lengths: int32 [B].
        states: h, and c for the LSTM, each [D, B, H].
        rates: zoneout's rates.

    Returns:
        Y [T, D, B, H] and the next states [D, B, H], as the plain operators.
    """
    real = _real_steps(graph, x, lengths)
    directions = recurrent.num_directions
    split = [_by_direction(graph, state, directions) for state in states]
    outputs, after = [], []
    for direction in range(directions):
        weights = recurrent.weights(layer, direction)
        gates = graph.add(
            "Add",
            graph.add("MatMul", x, graph.constant(to_numpy(weights.weight_ih).T)),
            graph.constant(to_numpy(weights.bias_ih)),
        )
        *new, y = graph.add_many(
            "Scan",
            [*(parts[direction] for parts in split), gates, real],
            len(states) + 1,
            body=_body(f"layer_{layer}_{direction}_", recurrent, weights, rates),
            num_scan_inputs=2,
            scan_input_directions=[direction, direction],
            scan_output_directions=[direction],
        )
        outputs.append(y)
        after.append(new)
    y = _stack(graph, outputs, axis=1)
    return y, [_stack(graph, parts, axis=0) for parts in map(list, zip(*after, strict=True))]


def _real_steps(graph: GraphBuilder, x: str, lengths: str) -> str:
    """Which steps are not padding, bool [T, B, 1]."""
    time = graph.add("Squeeze", graph.add("Shape", x, start=0, end=1))
    zero, one = graph.constant(0, "int64"), graph.constant(1, "int64")
    steps = graph.reshape(graph.add("Range", zero, time, one), (-1, 1, 1))
    rows = graph.reshape(graph.add("Cast", lengths, to=INT64), (1, -1, 1))
    return graph.add("Less", steps, rows)


def _by_direction(graph: GraphBuilder, state: str, directions: int) -> list[str]:
    """[D, B, H] to D times [B, H]."""
    axis = graph.constant([0], "int64")
    if directions == 1:
        return [graph.add("Squeeze", state, axis)]
    parts = graph.add_many("Split", [state], directions, axis=0, num_outputs=directions)
    return [graph.add("Squeeze", part, axis) for part in parts]


def _stack(graph: GraphBuilder, parts: list[str], axis: int) -> str:
    where = graph.constant([axis], "int64")
    raised = [graph.add("Unsqueeze", part, where) for part in parts]
    return raised[0] if len(raised) == 1 else graph.add("Concat", *raised, axis=axis)


@dataclass(frozen=True)
class _StepGraph:
    """The nodes of one step; the equations are those of tidegate.train.cells."""

    graph: GraphBuilder
    weights: Weights
    rates: LayerMasks
    size: int

    def lstm(self, gates: str, h: str, c: str) -> tuple[str, str]:
        i, f, g, o = self._split(self._plus_recurrent(gates, h), 4)
        update = self.graph.add("Mul", self._sigmoid(i), self.graph.add("Tanh", g))
        c_new = self.graph.add("Add", self.graph.add("Mul", self._sigmoid(f), c), update)
        h_new = self.graph.add("Mul", self._sigmoid(o), self.graph.add("Tanh", c_new))
        return self._keep(h_new, h, self.rates.zone_hidden), self._keep(
            c_new, c, self.rates.zone_cell
        )

    def gru(self, gates: str, h: str) -> str:
        x_r, x_z, x_n = self._split(gates, 3)
        h_r, h_z, h_n = self._split(self._recurrent(h, 0, 3), 3)
        r = self._sigmoid(self.graph.add("Add", x_r, h_r))
        n = self.graph.add("Add", x_n, self.graph.add("Mul", r, h_n))
        return self._gru_output(self.graph.add("Add", x_z, h_z), n, h)

    def gru_reset_before(self, gates: str, h: str) -> str:
        x_r, x_z, x_n = self._split(gates, 3)
        h_r, h_z = self._split(self._recurrent(h, 0, 2), 2)
        r = self._sigmoid(self.graph.add("Add", x_r, h_r))
        reset = self._recurrent(self.graph.add("Mul", r, h), 2, 3)
        n = self.graph.add("Add", x_n, reset)
        return self._gru_output(self.graph.add("Add", x_z, h_z), n, h)

    def rnn(self, gates: str, h: str) -> str:
        h_new = self.graph.add("Tanh", self._plus_recurrent(gates, h))
        return self._keep(h_new, h, self.rates.zone_hidden)

    def _gru_output(self, z: str, n: str, h: str) -> str:
        n, z = self.graph.add("Tanh", n), self._sigmoid(z)
        rest = self.graph.add("Sub", self.graph.constant(1.0), z)
        h_new = self.graph.add("Add", self.graph.add("Mul", rest, n), self.graph.add("Mul", z, h))
        return self._keep(h_new, h, self.rates.zone_hidden)

    def _plus_recurrent(self, gates: str, h: str) -> str:
        return self.graph.add("Add", gates, self._recurrent(h, 0, None))

    def _recurrent(self, h: str, first: int, last: int | None) -> str:
        """W_hh h + b_hh for the gates from first to last."""
        rows = slice(first * self.size, None if last is None else last * self.size)
        weight = self.graph.constant(to_numpy(self.weights.weight_hh[rows]).T)
        bias = self.graph.constant(to_numpy(self.weights.bias_hh[rows]))
        return self.graph.add("Add", self.graph.add("MatMul", h, weight), bias)

    def _split(self, gates: str, parts: int) -> list[str]:
        return self.graph.add_many("Split", [gates], parts, axis=-1, num_outputs=parts)

    def _sigmoid(self, value: str) -> str:
        return self.graph.add("Sigmoid", value)

    def _keep(self, new: str, old: str, rate: object) -> str:
        """Zoneout's expectation: rate * old + (1 - rate) * new."""
        if not isinstance(rate, float):
            return new
        kept = self.graph.add("Mul", self.graph.constant(rate), old)
        updated = self.graph.add("Mul", self.graph.constant(1 - rate), new)
        return self.graph.add("Add", kept, updated)


def _body(
    prefix: str, recurrent: Recurrent, weights: Weights, rates: LayerMasks
) -> onnx.GraphProto:
    """The Scan's body: (h[, c], gates_t, real_t) -> (h[, c], y_t)."""
    graph, H = GraphBuilder(prefix), recurrent.hidden_size
    names = ("h", "c") if recurrent.cell == "lstm" else ("h",)
    old = [graph.input(prefix + name, "float32", ("batch", H)) for name in names]
    gates = graph.input(prefix + "gates", "float32", ("batch", recurrent.gates * H))
    real = graph.input(prefix + "real", "bool", ("batch", 1))
    step = _StepGraph(graph, weights, rates, H)
    if recurrent.cell == "lstm":
        new = list(step.lstm(gates, *old))
    elif recurrent.cell == "rnn":
        new = [step.rnn(gates, *old)]
    elif recurrent.reset_after:
        new = [step.gru(gates, *old)]
    else:
        new = [step.gru_reset_before(gates, *old)]
    for name, before, after in zip(names, old, new, strict=True):
        value = graph.add("Where", real, after, before)
        graph.output(value, f"{prefix}{name}_new", "float32", ("batch", H))
    y = graph.add("Where", real, new[0], graph.constant(0.0))
    graph.output(y, prefix + "y", "float32", ("batch", H))
    return graph.body(prefix + "step")
