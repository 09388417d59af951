"""The operators of an ONNX file, and whether they keep its inference contract."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from tidegate.serve.errors import LoadError
from tidegate.v1 import model_spec_pb2 as pb
from tidegate.v1 import onnx_graph_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    # Both name a network, its direction, its regularizers and their contract.
    _Network = pb.ModelSpec | pb.Characters

OPERATORS = {pb.CELL_LSTM: "LSTM", pb.CELL_GRU: "GRU", pb.CELL_RNN: "RNN"}
_RANDOM = frozenset({"Dropout", "Bernoulli", "Multinomial"})
# Forward and back.
_CRF_SCANS = 2
_PLAIN = (pb.INFERENCE_CONTRACT_IDENTITY, pb.INFERENCE_CONTRACT_FOLDED)


def count_operators(content: bytes) -> Counter[str]:
    """How many nodes of each operator a file holds, with those of inner graphs.

    Raises:
        LoadError: The bytes are no ONNX file.
    """
    try:
        model = onnx_graph_pb2.OnnxModel.FromString(content)
    except DecodeError as error:
        raise LoadError(f"the file is no ONNX model: {error}") from error
    nodes = [*model.graph.node, *(node for one in model.functions for node in one.node)]
    return Counter(node.op_type for node in _with_inner(nodes))


def check_contract(spec: pb.ModelSpec, operators: Counter[str]) -> None:
    """Checks the operators against the contract that the spec declares.

    Under `identity` and `folded` there is one plain operator for each layer, with
    both directions in it; under `expectation` there is none, but a Scan for each
    layer and direction. A CRF adds its two Scans. Nothing random is anywhere.

    Raises:
        LoadError: The contract is missing, contradicts the regularizers, or is broken.
    """
    random = sorted(name for name in operators if name in _RANDOM or name.startswith("Random"))
    if random:
        raise LoadError(f"the graph holds {', '.join(random)}: inference draws nothing")
    networks: list[_Network] = [spec]
    if spec.labelling.HasField("characters"):
        networks.append(spec.labelling.characters)
    for network in networks:
        _check_declared(network)
    wanted: Counter[str] = Counter()
    for network in networks:
        wanted.update(_wanted(network))
    if spec.labelling.decoder == pb.DECODER_CRF:
        wanted["Scan"] += _CRF_SCANS
    for name, count in wanted.items():
        if operators[name] != count:
            asked = " and ".join(map(_described, networks))
            raise LoadError(
                f"the graph holds {operators[name]} {name} operators; {asked} asks for {count}"
            )


def _wanted(spec: _Network) -> dict[str, int]:
    """How often each operator that repeats in time must occur."""
    wanted, network = dict.fromkeys((*OPERATORS.values(), "Scan", "Loop"), 0), spec.network
    if spec.contract in _PLAIN:
        return wanted | {OPERATORS[network.cell]: network.num_layers}
    directions = 2 if spec.direction == pb.DIRECTION_BIDIRECTIONAL else 1
    return wanted | {"Scan": network.num_layers * directions}


def _described(spec: _Network) -> str:
    network = spec.network
    return (
        f"the contract {_name(spec.contract)} of {network.num_layers} layers of "
        f"{pb.Cell.Name(network.cell)}"
    )


def _check_declared(spec: _Network) -> None:
    where = "spec" if isinstance(spec, pb.ModelSpec) else "spec.labelling.characters"
    if spec.network.cell not in OPERATORS or spec.network.num_layers < 1:
        raise LoadError(
            f"{where}.network needs a cell that this server knows and at least one layer"
        )
    if spec.contract not in (*_PLAIN, pb.INFERENCE_CONTRACT_EXPECTATION):
        raise LoadError(f"{where}.contract is missing: identity, folded or expectation")
    asked = [one.contract for one in spec.regularizers]
    # The numbers ascend from the contract that promises most to the one that promises least.
    strictest = max(asked, default=pb.INFERENCE_CONTRACT_IDENTITY)
    if strictest != spec.contract or pb.INFERENCE_CONTRACT_UNSPECIFIED in asked:
        named = {one.name: _name(one.contract) for one in spec.regularizers}
        raise LoadError(
            f"{where}.contract is {_name(spec.contract)}, which does not follow from {named}"
        )


def _name(contract: pb.InferenceContract.ValueType) -> str:
    return pb.InferenceContract.Name(contract).removeprefix("INFERENCE_CONTRACT_").lower()


def _with_inner(nodes: Iterable[onnx_graph_pb2.OnnxNode]) -> Iterator[onnx_graph_pb2.OnnxNode]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _with_inner(graph.node)
