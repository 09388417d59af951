"""How an expectation runs fastest: ``make bench-export`` prints this table first.

Zoneout has no operator of its own in ONNX. For a stack of two layers the same
exported file is compared, in microseconds a run,

- ``If``: as exported, the step for one time step and a Scan for more;
- ``Scan``: only the branch with the Scan, for any time length;
- ``step``: only the branch with the step, as a second file would hold it;
- ``operator``: the plain LSTM or GRU for one time step, its outcome mixed with the
  old state, by an If with a Scan over the same;
- ``plain``: the plain operator over the sequence, which is another network: what
  zoneout costs.

All take turns within a round; the figures are medians over the rounds.
"""

import functools
import itertools
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import onnxruntime
import torch
from export_measure import interleaved, medians
from onnx import helper

from tidegate.train import Recurrent, Zoneout, export_onnx
from tidegate.train.export import expectation
from tidegate.train.export.builders import build_graph
from tidegate.train.export.contract import Rates
from tidegate.train.export.graph import GraphBuilder
from tidegate.train.export.joints import STATE_NAMES
from tidegate.train.export.step import StepGraph
from tidegate.train.export.weights import OperatorWeights, operator_weights
from tidegate.train.recurrent import CellName

INPUTS, LAYERS = 8, 2
ZONEOUT = Zoneout(cell=0.3, hidden=0.2)
HIDDEN, BATCHES, TIMES = (64, 128, 256), (1, 32), (1, 25, 100)
WAYS = ("If", "Scan", "step", "operator", "plain")


def report(rounds: int) -> None:
    """Prints a table for each cell."""
    for cell in ("lstm", "gru"):
        print(f"\n{cell}, {LAYERS} layers, microseconds a run\n")
        print("| H | B | T |", " | ".join(WAYS), "|")
        print("|" + "---|" * (3 + len(WAYS)))
        for hidden, batch in itertools.product(HIDDEN, BATCHES):
            sessions = make_sessions(cell, hidden)
            for time in TIMES:
                print(f"| {hidden} | {batch} | {time} |", row(sessions, cell, batch, time, rounds))


def row(
    sessions: dict[str, onnxruntime.InferenceSession], cell: str, batch: int, time: int, rounds: int
) -> str:
    """The figures of one shape as Markdown."""
    rng = np.random.default_rng(0)
    hidden = sessions["If"].get_inputs()[2].shape[2]
    feeds = {
        "x": rng.normal(size=(batch, time, INPUTS)).astype(np.float32),
        "lengths": np.full(batch, time, np.int32),
    }
    for name in STATE_NAMES[cell]:
        feeds[name] = rng.uniform(-1, 1, (LAYERS, batch, hidden)).astype(np.float32)
    runs: dict[str, Callable[[], object]] = {
        way: functools.partial(run.run, None, feeds)
        for way, run in sessions.items()
        if way != "step" or time == 1
    }
    reference = sessions["If"].run(None, feeds)
    for way in set(runs) - {"plain"}:
        for outcome, expected in zip(sessions[way].run(None, feeds), reference, strict=True):
            np.testing.assert_allclose(outcome, expected, rtol=0, atol=1e-5)
    found = medians(interleaved(runs, rounds))
    cells = [f"{1e6 * found[way]:.0f}" if way in found else "-" for way in WAYS]
    return " | ".join(cells) + " |"


def make_sessions(cell: CellName, hidden: int) -> dict[str, onnxruntime.InferenceSession]:
    """A session for each way, of the same weights."""
    torch.manual_seed(0)
    zoned = Recurrent(cell, INPUTS, hidden, LAYERS, regularizers=[ZONEOUT]).eval()
    plain = Recurrent(cell, INPUTS, hidden, LAYERS).eval()
    plain.load_state_dict(zoned.state_dict())
    exported = exported_model(zoned)
    return {
        "If": session(exported),
        "Scan": session(only_branch(exported, "else_branch")),
        "step": session(only_branch(exported, "then_branch")),
        "operator": session(by_operator(zoned)),
        "plain": session(exported_model(plain)),
    }


def exported_model(model: Recurrent) -> onnx.ModelProto:
    """The file as exported."""
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(model, Path(folder) / "model.onnx")
        return onnx.load(Path(folder) / "model.onnx")


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """On one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def only_branch(exported: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The file with one branch in the place of the If."""
    model = onnx.ModelProto()
    model.CopyFrom(exported)
    nodes = list(model.graph.node)
    place = next(index for index, node in enumerate(nodes) if node.op_type == "If")
    branch = next(one.g for one in nodes[place].attribute if one.name == name)
    ends = [
        helper.make_node("Identity", [value.name], [output])
        for value, output in zip(branch.output, nodes[place].output, strict=True)
    ]
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:place], *branch.node, *ends, *nodes[place + 1 :]])
    return model


@dataclass(frozen=True)
class OperatorStep(StepGraph):
    """The plain operator on one step, its new states mixed with the old ones."""

    operator: OperatorWeights

    @property
    def gates_size(self) -> int:
        """The operator reads x itself."""
        return int(self.operator.W.shape[1])

    def input_gates(self, graph: GraphBuilder, x: str) -> str:
        """There is nothing to prepare."""
        del graph
        return x

    def add(self, graph: GraphBuilder, gates: str, states: list[str]) -> list[str]:
        """Adds the operator and the mixture."""
        if gates in {info.name for info in graph.inputs}:
            # A Scan hands over one step without its axis.
            gates = graph.add("Unsqueeze", gates, graph.constant([0], "int64"))
        named = zip("WRB", self.operator, strict=True)
        weights = [
            graph.constant(value[None], name=f"{name}{self.suffix}") for name, value in named
        ]
        flags = {"linear_before_reset": 1} if self.cell == "gru" else {}
        _, *new = graph.add_many(
            self.cell.upper(),
            [gates, *weights, "", *states],
            1 + len(states),
            hidden_size=self.hidden_size,
            **flags,
        )
        rates = (self.rates.hidden, self.rates.cell)
        mixed = zip(new, states, rates, strict=False)
        return [self._keep(graph, value, old, rate) for value, old, rate in mixed]


def by_operator(recurrent: Recurrent) -> onnx.ModelProto:
    """The exported graph with the plain operator in each step."""
    made = expectation._step

    def make(
        network: Recurrent, layer: int, direction: int, rates: Rates, masks: Collection[str]
    ) -> StepGraph:
        step = made(network, layer, direction, rates, masks)
        weights = operator_weights(network.cell, network.weights(layer, direction))
        return OperatorStep(step.cell, step.weights, step.suffix, step.rates, weights)

    with mock.patch.object(expectation, "_step", make):
        return build_graph(recurrent).model("by_operator", {})
