"""Segments as graph nodes: the equations of tidegate.train.segments.

Dimensions: T time, B batch, F features, C channels, R rows (B * C), L layers, H hidden,
w segment, P phases, m lags. Values are time-major.
"""

from typing import NamedTuple

from tidegate.train.export.graph import INT32, INT64, GraphBuilder
from tidegate.train.export.joints import STATE_NAMES
from tidegate.train.export.layers import add_stack
from tidegate.train.forecaster import Forecaster

READS = "reads"


class Outcome(NamedTuple):
    """What the segments came to.

    Attributes:
        hidden: [B, T, C, H], with lags [B, T, C, H + m]: the last m reads, whose sums
            are in the head's weights.
        states: the next ones, in the order of the inputs.
    """

    hidden: str
    states: list[str]


def segment_inputs(graph: GraphBuilder, model: Forecaster) -> list[str]:
    """Declares h (and c) [L * w, B, C * H], and reads [max(w, m) - 1, B, F] if any."""
    return [graph.input(name, "float32", shape) for name, shape in _states(model).items()]


def segment_outputs(graph: GraphBuilder, model: Forecaster, states: list[str]) -> None:
    """Declares the next states."""
    for (name, shape), value in zip(_states(model).items(), states, strict=True):
        graph.output(value, f"{name}_next", "float32", shape)


def add_segments(
    graph: GraphBuilder, model: Forecaster, read: str, lengths: str, states: list[str]
) -> Outcome:
    """Adds the network.

    Args:
        graph: to add to.
        model: the forecaster.
        read: what is read, standardized, [T, B, F].
        lengths: int32 [B].
        states: of :func:`segment_inputs`.
    """
    return _Segments(graph, model, read, lengths).add(states)


def _states(model: Forecaster) -> dict[str, tuple[int | str, ...]]:
    w, kept, recurrent = model.segments.length, model.segments.kept, model.recurrent
    features = len(model.format.features)
    channels = features if model.segments.channel_independent else 1
    ring = (recurrent.num_layers * w, "batch", channels * recurrent.hidden_size)
    shapes: dict[str, tuple[int | str, ...]] = dict.fromkeys(STATE_NAMES[recurrent.cell], ring)
    return shapes | ({READS: (kept, "batch", features)} if kept else {})


class _Segments:
    """The nodes of one network; numbers that depend on the input are int64 [1] or [B]."""

    def __init__(self, graph: GraphBuilder, model: Forecaster, read: str, lengths: str) -> None:
        self.graph = graph
        self.recurrent = model.recurrent
        self.w = model.segments.length
        self.lags = model.segments.lags
        self.kept = model.segments.kept
        self.features = len(model.format.features)
        self.channels = self.features if model.segments.channel_independent else 1
        self.read = read
        self.time = graph.add("Shape", read, start=0, end=1)
        self.batch = graph.add("Shape", read, start=1, end=2)
        self.rows = self._times(self.batch, self.channels)
        self.lengths = graph.add("Cast", lengths, to=INT64)
        self.phases = graph.add("Min", self.time, self._number(self.w))
        self.steps = graph.add("Div", self._rounded_up(self.time), self.phases)

    def add(self, states: list[str]) -> Outcome:
        graph, rings = self.graph, list(states)
        known = graph.add("Concat", rings.pop(), self.read, axis=0) if self.kept else self.read
        recent = [self._recent(known)] if self.kept else []
        counts = self._counts()
        least = graph.add("Max", counts, self._number(1))
        whole = [self._ring(ring) for ring in rings]
        before = [self._phases_of(ring) for ring in whole]
        y, new = add_stack(
            graph,
            self.recurrent,
            self._folded(self._windows(known)),
            graph.reshape(graph.add("Cast", least, to=INT32), (-1,)),
            [graph.reshape(one, (0, -1, self.recurrent.hidden_size)) for one in before],
        )
        turned = [
            self._turned(ring, old, one, counts)
            for ring, old, one in zip(whole, before, new, strict=True)
        ]
        hidden = self._hidden(y)
        if self.lags:
            changes = graph.transpose(self._latest(known, self.lags), (1, 0, 2, 3))
            hidden = graph.add("Concat", hidden, changes, axis=-1)
        return Outcome(hidden, [*turned, *recent])

    def _windows(self, known: str) -> str:
        """The last w reads at each step, [T, R, w], or of all features [T, R, F * w]."""
        graph = self.graph
        windows = self._latest(known, self.w) if self.kept else known
        width = self.features * self.w // self.channels
        return graph.add("Reshape", windows, self._shape(self.time, -1, width))

    def _latest(self, known: str, count: int) -> str:
        """The last reads at each step, [T, B, F, count]."""
        graph = self.graph
        places = [[self.kept - count + 1 + place for place in range(count)]]
        offsets = graph.constant(places, "int64")
        index = graph.add("Add", self._range(self.time, (-1, 1)), offsets)
        return graph.transpose(graph.add("Gather", known, index, axis=0), (0, 2, 3, 1))

    def _folded(self, windows: str) -> str:
        """Every P steps side by side, [T / P, P * R, I]; the last ones are padded."""
        graph = self.graph
        padding = graph.add("Sub", self._times(self.steps, self.phases), self.time)
        pads = graph.add("Concat", self._number(0), padding, axis=0)
        padded = graph.add("Pad", windows, pads, "", self._number(0))
        width = self.features * self.w // self.channels
        return graph.add("Reshape", padded, self._shape(self.steps, -1, width))

    def _hidden(self, y: str) -> str:
        """[T / P, P * R, H] to [B, T, C, H]."""
        graph, H = self.graph, self.recurrent.hidden_size
        unfolded = graph.add("Reshape", y, self._shape(-1, self.batch, self.channels, H))
        cut = graph.add("Slice", unfolded, self._number(0), self.time, self._number(0))
        return graph.transpose(cut, (1, 0, 2, 3))

    def _counts(self) -> str:
        """Steps of each phase and row, [P, R]."""
        graph = self.graph
        phase = self._range(self.phases, (-1, 1))
        left = graph.add("Sub", self._by_row(self.lengths), phase)
        # Lengths are at least 1 and phases below P: nothing here is negative.
        return graph.add("Div", self._rounded_up(left), self.phases)

    def _ring(self, state: str) -> str:
        """[L * w, B, C * H] as [L, w, R, H]."""
        L, H = self.recurrent.num_layers, self.recurrent.hidden_size
        return self.graph.add("Reshape", state, self._shape(L, self.w, self.rows, H))

    def _phases_of(self, ring: str) -> str:
        """The first P of [L, w, R, H], as [L, P * R, H] when reshaped so."""
        one = self._number(1)
        return self.graph.add("Slice", ring, self._number(0), self.phases, one)

    def _turned(self, ring: str, old: str, new: str, counts: str) -> str:
        """The last w states with the oldest first again, [L * w, B, C * H]."""
        graph, L, H = self.graph, self.recurrent.num_layers, self.recurrent.hidden_size
        new = graph.add("Reshape", new, self._shape(L, self.phases, self.rows, H))
        stepped = graph.add("Greater", counts, self._number(0))
        stepped = graph.add("Unsqueeze", stepped, self._number(-1))
        moved = graph.add("Where", stepped, new, old)
        one = self._number(1)
        rest = graph.add("Slice", ring, self.phases, self._number(self.w), one)
        whole = graph.add("Concat", moved, rest, axis=1)
        flat = graph.reshape(whole, (0, -1, H))
        ages = graph.add("Add", self._numbers(self.w, (-1, 1)), self._by_row(self.lengths))
        phase = graph.add("Mod", ages, self._number(self.w))
        index = self._flat_index(phase, self.rows)
        turned = graph.add("Gather", flat, index, axis=1)
        return graph.reshape(turned, (L * self.w, -1, self.channels * H))

    def _recent(self, known: str) -> str:
        """The last reads of each row, those that are kept, [max(w, m) - 1, B, F]."""
        graph = self.graph
        index = graph.add("Add", self._numbers(self.kept, (-1, 1)), self.lengths)
        flat = graph.reshape(known, (-1, self.features))
        gathered = graph.add("Gather", flat, self._flat_index(index, self.batch), axis=0)
        return graph.reshape(gathered, (self.kept, -1, self.features))

    def _flat_index(self, index: str, rows: str) -> str:
        """Places in [..., rows] made one axis, of [N, rows] numbers along the other."""
        graph = self.graph
        places = graph.add("Add", graph.add("Mul", index, rows), self._range(rows, (1, -1)))
        return graph.reshape(places, (-1,))

    def _by_row(self, per_batch: str) -> str:
        """[B] to [R]: once for each channel."""
        if self.channels == 1:
            return per_batch
        column = self.graph.reshape(per_batch, (-1, 1))
        shape = self.graph.constant([1, self.channels], "int64")
        return self.graph.reshape(self.graph.add("Expand", column, shape), (-1,))

    def _rounded_up(self, number: str) -> str:
        """Number + P - 1, for a division by P."""
        more = self.graph.add("Sub", self.phases, self._number(1))
        return self.graph.add("Add", number, more)

    def _range(self, stop: str, shape: tuple[int, ...]) -> str:
        graph = self.graph
        zero, one = graph.constant(0, "int64"), graph.constant(1, "int64")
        return graph.reshape(graph.add("Range", zero, graph.add("Squeeze", stop), one), shape)

    def _times(self, number: str, factor: str | int) -> str:
        if isinstance(factor, int):
            factor = self._number(factor)
        return self.graph.add("Mul", number, factor)

    def _number(self, value: int) -> str:
        return self.graph.constant([value], "int64")

    def _numbers(self, stop: int, shape: tuple[int, ...] = (1, -1)) -> str:
        numbers = [[i] for i in range(stop)] if shape == (-1, 1) else [list(range(stop))]
        return self.graph.constant(numbers, "int64")

    def _shape(self, *sizes: str | int) -> str:
        parts = [self._number(one) if isinstance(one, int) else one for one in sizes]
        return self.graph.add("Concat", *parts, axis=0)
