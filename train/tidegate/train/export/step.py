"""One step of an expectation as nodes; the equations are those of tidegate.train.cells.

Dimensions: B batch, I input size, G gates, H hidden. Gates are [B, G*H] or
[1, B, G*H], states [1, B, H].
"""

from dataclasses import dataclass, field

from tidegate.train.export.contract import Rates
from tidegate.train.export.graph import GraphBuilder
from tidegate.train.export.weights import Array, StepWeights


@dataclass(frozen=True)
class StepGraph:
    """The step of one layer and direction.

    Attributes:
        cell: "lstm", "gru" or "rnn".
        weights: in the step's own arrangement.
        suffix: of the weights' names, such as "_l0_reverse".
        rates: zoneout's.
        mask: name of the mask on h where it enters the gates, [B, H]; empty: none.
    """

    cell: str
    weights: StepWeights
    suffix: str
    rates: Rates
    mask: str = field(default="", kw_only=True)

    @property
    def hidden_size(self) -> int:
        """H."""
        return int(self.weights.R.shape[1])

    @property
    def gates_size(self) -> int:
        """G*H."""
        return len(self.weights.B)

    def input_gates(self, graph: GraphBuilder, x: str) -> str:
        """The input's share of the gates, for one step or all: [..., B, G*H]."""
        product = self._product(graph, x, "W", self.weights.W)
        return graph.add("Add", product, self._named(graph, "B", self.weights.B))

    def add(self, graph: GraphBuilder, gates: str, states: list[str]) -> list[str]:
        """Adds the step: input gates and old states to new states."""
        if self.cell == "lstm":
            return self._lstm(graph, gates, *states)
        if self.cell == "gru":
            return [self._gru(graph, gates, *states)]
        h_new = graph.add("Tanh", graph.add("Add", gates, self._recurrent(graph, *states)))
        return [self._keep(graph, h_new, states[0], self.rates.hidden)]

    def _lstm(self, graph: GraphBuilder, gates: str, h: str, c: str) -> list[str]:
        H = self.hidden_size
        all_gates = graph.add("Add", gates, self._recurrent(graph, h))
        sigmoids, g = graph.split(all_gates, (3 * H, H))
        i, f, o = graph.split(graph.add("Sigmoid", sigmoids), (H, H, H))
        update = graph.add("Mul", i, graph.add("Tanh", g))
        c_new = graph.add("Add", graph.add("Mul", f, c), update)
        # h~ is computed from the updated cell, before the old one is mixed in.
        h_new = graph.add("Mul", o, graph.add("Tanh", c_new))
        return [
            self._keep(graph, h_new, h, self.rates.hidden),
            self._keep(graph, c_new, c, self.rates.cell),
        ]

    def _gru(self, graph: GraphBuilder, gates: str, h: str) -> str:
        """The GRU with z' = p + (1 - p) z: h + (1 - p) sigmoid(-a_z) (n - h)."""
        H, weights = self.hidden_size, self.weights
        x_rz, x_n = graph.split(gates, (2 * H, H))
        if weights.B_hn is not None:
            h_rz, h_n = graph.split(self._recurrent(graph, h), (2 * H, H))
            r, update = self._gates(graph, x_rz, h_rz)
            h_n = graph.add("Add", h_n, self._named(graph, "B_hn", weights.B_hn))
            reset = graph.add("Mul", r, h_n)
        else:
            h_rz = self._product(graph, self._masked(graph, h), "R_rz", weights.R[: 2 * H])
            r, update = self._gates(graph, x_rz, h_rz)
            reset = self._masked(graph, graph.add("Mul", r, h))
            reset = self._product(graph, reset, "R_n", weights.R[2 * H :])
        n = graph.add("Tanh", graph.add("Add", x_n, reset))
        update = graph.add("Mul", update, graph.constant(1 - self.rates.hidden))
        return graph.add("Add", h, graph.add("Mul", update, graph.add("Sub", n, h)))

    def _gates(self, graph: GraphBuilder, x_rz: str, h_rz: str) -> list[str]:
        H = self.hidden_size
        return graph.split(graph.add("Sigmoid", graph.add("Add", x_rz, h_rz)), (H, H))

    def _recurrent(self, graph: GraphBuilder, h: str) -> str:
        return self._product(graph, self._masked(graph, h), "R", self.weights.R)

    def _masked(self, graph: GraphBuilder, h: str) -> str:
        return graph.add("Mul", h, self.mask) if self.mask else h

    def _product(self, graph: GraphBuilder, x: str, name: str, weight: Array) -> str:
        # Transposed here and not before: ONNX Runtime folds it into a constant of
        # this very graph when it loads the file. Only such constants it arranges
        # for its fast products, and only with those has a row the same bits in
        # every batch; a constant of the graph two levels up would be neither.
        transposed = graph.transpose(self._named(graph, name, weight), (1, 0))
        return graph.add("MatMul", x, transposed)

    def _keep(self, graph: GraphBuilder, new: str, old: str, rate: float) -> str:
        """Zoneout's expectation: rate * old + (1 - rate) * new."""
        if rate == 0:
            return new
        kept = graph.add("Mul", graph.constant(rate), old)
        return graph.add("Add", kept, graph.add("Mul", graph.constant(1 - rate), new))

    def _named(self, graph: GraphBuilder, name: str, value: Array) -> str:
        return graph.constant(value, name=f"step_{name}{self.suffix}")
