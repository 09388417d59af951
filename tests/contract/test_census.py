"""Which operators a file holds, over the whole grid of cells, shapes and regularizers."""

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import onnx
import pytest
from google.protobuf import json_format

from support.models import FLAVOURS, small_recurrent
from tidegate.serve.errors import LoadError
from tidegate.serve.operators import check_contract, count_operators
from tidegate.train import (
    EmbeddingDropout,
    Recurrent,
    RNNDrop,
    Semeniuta,
    Variational,
    WeightDrop,
    Zaremba,
    Zoneout,
    export_onnx,
)
from tidegate.train.export import builders, contract
from tidegate.train.export.spec import METADATA_KEY
from tidegate.train.regularizers import REGULARIZERS, Contract, Regularizer
from tidegate.v1 import model_spec_pb2 as pb

PLAIN: tuple[tuple[Regularizer, ...], ...] = (
    (),
    (Zaremba(0.5),),
    (Zaremba(0.5, granularity="sequence"),),
    (RNNDrop(0.5),),
    (Variational(0.5),),
    (Variational(0.5, tied=False),),
    (WeightDrop(0.5),),
    (WeightDrop(0.5, per_example=True),),
    (EmbeddingDropout(0.5),),
    (Semeniuta(0.5),),
    (Semeniuta(0.5, granularity="sequence"),),
    (Zoneout(cell=0.0, hidden=0.0),),
    (Zaremba(0.3), WeightDrop(0.5), RNNDrop(0.3)),
)
ZONED: tuple[tuple[Regularizer, ...], ...] = (
    (Zoneout(cell=0.3, hidden=0.2),),
    (Zoneout(cell=0.0, hidden=0.5),),
    (Variational(0.3), Zoneout(), WeightDrop(0.3)),
)
LAYERS = (1, 2, 3)
DIRECTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"bidirectional": True},
    {"bidirectional": True, "merge": "sum"},
)
RECURRENT = ("LSTM", "GRU", "RNN", "Scan", "Loop")


def onnx_model(recurrent: Recurrent) -> onnx.ModelProto:
    """The file, without the gate."""
    return builders.build_graph(recurrent.eval()).model("model", {})


def grid(
    methods: Sequence[tuple[Regularizer, ...]],
) -> list[tuple[tuple[Regularizer, ...], str, bool]]:
    """Every combination with every cell that has its sites."""
    return [
        (combination, *flavour)
        for combination, flavour in itertools.product(methods, FLAVOURS)
        if not (flavour[0] == "rnn" and any(isinstance(one, Semeniuta) for one in combination))
    ]


def shapes() -> list[dict[str, Any]]:
    return [
        {"num_layers": layers, **direction}
        for layers, direction in itertools.product(LAYERS, DIRECTIONS)
    ]


def recurrent_nodes(operators: Counter[str]) -> dict[str, int]:
    return {name: operators[name] for name in RECURRENT if operators[name]}


def assert_nothing_random(operators: Counter[str]) -> None:
    random = ("Dropout", "Bernoulli", "Multinomial")
    assert not [name for name in operators if name in random or "Random" in name]


def test_the_grid_has_every_method() -> None:
    used = {one.name for combination in (*PLAIN, *ZONED) for one in combination}

    assert used == set(REGULARIZERS)


@pytest.mark.parametrize(("methods", "cell", "reset_after"), grid(PLAIN), ids=str)
def test_identity_is_one_operator_for_each_layer_with_both_directions_in_it(
    methods: tuple[Regularizer, ...], cell: str, reset_after: bool
) -> None:
    for shape in shapes():
        model = small_recurrent(cell, reset_after=reset_after, regularizers=methods, **shape)
        operators = contract.census(onnx_model(model))

        assert recurrent_nodes(operators) == {cell.upper(): shape["num_layers"]}
        assert_nothing_random(operators)


@pytest.mark.parametrize(("methods", "cell", "reset_after"), grid(ZONED), ids=str)
def test_an_expectation_is_a_scan_for_each_layer_and_direction_and_never_an_operator(
    methods: tuple[Regularizer, ...], cell: str, reset_after: bool
) -> None:
    for shape in shapes():
        model = small_recurrent(cell, reset_after=reset_after, regularizers=methods, **shape)
        operators = contract.census(onnx_model(model))

        assert recurrent_nodes(operators) == {"Scan": shape["num_layers"] * model.num_directions}
        assert operators["If"] == 1
        assert_nothing_random(operators)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_zoneout_at_rates_of_zero_asks_nothing(cell: str) -> None:
    model = small_recurrent(cell, regularizers=[Zoneout(cell=0.0, hidden=0.0)])

    assert contract.network_contract(model) is Contract.IDENTITY


@pytest.mark.parametrize("operator", ["Dropout", "Bernoulli", "RandomNormal", "RandomUniformLike"])
def test_the_exporter_refuses_a_random_node_even_inside_a_body(operator: str) -> None:
    model = small_recurrent("gru", regularizers=[Zoneout(0.3, 0.2)])
    file = onnx_model(model)
    body = inner_graphs(file)[-1]
    body.node.append(onnx.helper.make_node(operator, [], ["drawn"]))

    with pytest.raises(contract.ContractError, match=f"holds {operator}; inference draws nothing"):
        contract.check_contract(file, model)


def test_the_exporter_refuses_a_plain_operator_for_zoneout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_recurrent("lstm", num_layers=2, regularizers=[Zoneout(0.3, 0.2)])
    monkeypatch.setattr("tidegate.train.export.layers.step_rates", lambda *_, **__: None)

    with pytest.raises(contract.ContractError, match=r"holds 2 LSTM operators; .* asks for 0"):
        export_onnx(model, tmp_path / "model.onnx")

    assert list(tmp_path.iterdir()) == []


def inner_graphs(file: onnx.ModelProto) -> list[onnx.GraphProto]:
    found, waiting = [], [file.graph]
    while waiting:
        for node in waiting.pop().node:
            inner = [one.g for one in node.attribute if one.HasField("g")]
            found += inner
            waiting += inner
    return found


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files by the name of their contract."""
    folder = tmp_path_factory.mktemp("files")
    for name, methods in (("identity", (Variational(0.3),)), ("expectation", (Zoneout(),))):
        model = small_recurrent("lstm", num_layers=2, regularizers=methods)
        export_onnx(model, folder / name)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def spec_of(content: bytes) -> pb.ModelSpec:
    properties = onnx.load_from_string(content).metadata_props
    text = next(one.value for one in properties if one.key == METADATA_KEY)
    return json_format.Parse(text, pb.ModelSpec())


def test_the_server_counts_the_operators_that_onnx_counts(exported: dict[str, bytes]) -> None:
    for content in exported.values():
        assert count_operators(content) == contract.census(onnx.load_from_string(content))


def test_the_server_takes_what_the_exporter_writes(exported: dict[str, bytes]) -> None:
    for content in exported.values():
        check_contract(spec_of(content), count_operators(content))


def test_the_server_refuses_a_contract_that_the_graph_breaks(exported: dict[str, bytes]) -> None:
    spec = spec_of(exported["expectation"])

    with pytest.raises(LoadError, match=r"2 LSTM operators; .* expectation of 2 layers .* for 0"):
        check_contract(spec, count_operators(exported["identity"]))


def test_the_server_refuses_a_random_node(exported: dict[str, bytes]) -> None:
    spec = spec_of(exported["identity"])
    operators = count_operators(exported["identity"])

    with pytest.raises(LoadError, match="holds Dropout, RandomUniform: inference draws nothing"):
        check_contract(spec, operators + Counter(Dropout=1, RandomUniform=1))


def test_the_server_refuses_a_contract_that_does_not_follow_from_the_regularizers(
    exported: dict[str, bytes],
) -> None:
    operators = count_operators(exported["identity"])
    spec = spec_of(exported["identity"])
    spec.regularizers.add(name="zoneout", contract=pb.INFERENCE_CONTRACT_EXPECTATION)

    with pytest.raises(LoadError, match=r"is identity, which does not follow .*'zoneout': 'expec"):
        check_contract(spec, operators)


@pytest.mark.parametrize(
    ("field", "text"),
    [("contract", "spec.contract is missing"), ("network", "spec.network needs a cell")],
)
def test_the_server_refuses_a_spec_without_a_contract_or_a_network(
    exported: dict[str, bytes], field: Literal["contract", "network"], text: str
) -> None:
    spec = spec_of(exported["identity"])
    spec.ClearField(field)

    with pytest.raises(LoadError, match=text):
        check_contract(spec, count_operators(exported["identity"]))


def test_the_server_says_when_a_file_is_no_onnx_model() -> None:
    with pytest.raises(LoadError, match="the file is no ONNX model"):
        count_operators(b"\x3a\xff\xff")
