"""The inference contract: what a network's graph must be, by its regularizers.

``identity`` and ``folded`` networks are plain operators, one for each layer;
an ``expectation`` never is. No graph holds anything random.
"""

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import onnx

from tidegate.train.export.mc_masks import needs_step
from tidegate.train.rates import rate_at
from tidegate.train.recurrent import Recurrent
from tidegate.train.regularizers import Contract, Regularizer, Zoneout, find

OPERATORS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
_RANDOM = frozenset({"Dropout", "Bernoulli", "Multinomial"})
# From the one that promises most to the one that promises least.
_ORDER = (Contract.IDENTITY, Contract.FOLDED, Contract.EXPECTATION)


class ContractError(ValueError):
    """A graph breaks the inference contract of its regularizers."""


class Rates(NamedTuple):
    """Zoneout's shares of the old c and the old h in one layer and direction."""

    cell: float
    hidden: float


def zones(recurrent: Recurrent) -> dict[tuple[int, int], Rates] | None:
    """Zoneout's rates by layer and direction; None: they change nothing in the inference."""
    zoneout = find(recurrent.regularizers, Zoneout)
    if zoneout is None:
        return None
    is_lstm = recurrent.cell == "lstm"
    rates = {
        (layer, direction): Rates(
            rate_at(zoneout.cell, layer, direction) if is_lstm else 0.0,
            rate_at(zoneout.hidden, layer, direction),
        )
        for layer in range(recurrent.num_layers)
        for direction in range(recurrent.num_directions)
    }
    return None if all(one == (0.0, 0.0) for one in rates.values()) else rates


def step_rates(recurrent: Recurrent, *, mc_masks: bool) -> dict[tuple[int, int], Rates] | None:
    """As :func:`zones`, and rates of 0 where masks as inputs ask for the step graph."""
    rates = zones(recurrent)
    if rates is not None or not (mc_masks and needs_step(recurrent)):
        return rates
    layers, directions = range(recurrent.num_layers), range(recurrent.num_directions)
    return dict.fromkeys(itertools.product(layers, directions), Rates(0.0, 0.0))


def regularizer_contract(one: Regularizer, recurrent: Recurrent) -> Contract:
    """What one method asks of this network's graph."""
    if isinstance(one, Zoneout) and zones(recurrent) is None:
        return Contract.IDENTITY
    return one.contract


def network_contract(recurrent: Recurrent) -> Contract:
    """What all methods together ask: the contract that promises least."""
    asked = [regularizer_contract(one, recurrent) for one in recurrent.regularizers]
    return max(asked, key=_ORDER.index, default=Contract.IDENTITY)


def census(model: onnx.ModelProto) -> Counter[str]:
    """How many nodes of each operator there are, with those of inner graphs."""
    return Counter(node.op_type for node in _nodes(model.graph))


def check_contract(
    model: onnx.ModelProto, *networks: Recurrent, scans: int = 0, mc_masks: bool = False
) -> None:
    """Checks that a graph keeps the contract of the networks' regularizers.

    Args:
        model: the file.
        networks: every one in it.
        scans: that do not belong to a network, such as those of a CRF.
        mc_masks: whether masks of Monte Carlo inference are inputs.

    Raises:
        ContractError: it does not; names the operators.
    """
    found = census(model)
    random = sorted(name for name in found if name in _RANDOM or name.startswith("Random"))
    if random:
        raise ContractError(f"the graph holds {', '.join(random)}; inference draws nothing")
    wanted: Counter[str] = Counter()
    for network in networks:
        wanted.update(wanted_operators(network, mc_masks=mc_masks))
    wanted["Scan"] += scans
    for name, count in wanted.items():
        if found[name] != count:
            asked = " and ".join(map(_described, networks))
            raise ContractError(
                f"the graph holds {found[name]} {name} operators; {asked} asks for {count}"
            )


def _described(recurrent: Recurrent) -> str:
    return (
        f"the contract {network_contract(recurrent).value!r} of "
        f"{[one.name for one in recurrent.regularizers]} with cell={recurrent.cell!r} and "
        f"num_layers={recurrent.num_layers}"
    )


def wanted_operators(recurrent: Recurrent, *, mc_masks: bool = False) -> dict[str, int]:
    """How often each operator that repeats in time must occur."""
    wanted = dict.fromkeys((*OPERATORS.values(), "Scan", "Loop"), 0)
    masked = mc_masks and needs_step(recurrent)
    if masked or network_contract(recurrent) is Contract.EXPECTATION:
        return wanted | {"Scan": recurrent.num_layers * recurrent.num_directions}
    return wanted | {OPERATORS[recurrent.cell]: recurrent.num_layers}


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)
