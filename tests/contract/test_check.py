"""A finished file passes the gates again, on either side, without the other half installed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from google.protobuf import json_format

from support.blocked import run_without
from support.models import (
    FLAVOURS,
    small_forecaster,
    small_labeller,
    small_recurrent,
    zoned_forecaster,
)
from tidegate.serve.__main__ import main as serve
from tidegate.train import ParityError, Semeniuta, Variational, Zaremba, Zoneout, export_onnx
from tidegate.train.__main__ import main as train
from tidegate.train.export import ContractError, check_file
from tidegate.train.export.rebuild import rebuild
from tidegate.v1 import model_spec_pb2 as pb

SERVING = ("grpc", "grpc_health", "grpc_reflection", "tidegate.serve", "tidegate.client")
TRAINING = ("torch", "onnx", "mlflow", "pandas", "matplotlib", "rich", "tidegate.train")

MODELS: dict[str, Callable[[], torch.nn.Module]] = {
    "forecaster": small_forecaster,
    "forecaster of levels": lambda: small_forecaster("lstm", differenced=False),
    "zoned forecaster": lambda: zoned_forecaster("lstm"),
    "labeller": small_labeller,
    "causal labeller": lambda: small_labeller(bidirectional=False),
    "variational": lambda: small_recurrent(
        "lstm", regularizers=[Variational(0.3, hidden_p=0.1, tied=False)]
    ),
    "several": lambda: small_recurrent(
        "gru", num_layers=2, regularizers=[Zaremba(0.2, granularity="sequence"), Semeniuta(0.1)]
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_file_passes_by_itself_and_beside_its_model(
    name: str, tmp_path: Path
) -> None:
    model = MODELS[name]()
    spec = export_onnx(model, tmp_path / "model.onnx")

    alone = check_file(tmp_path / "model.onnx")
    beside = check_file(tmp_path / "model.onnx", model)

    assert str(alone.spec) == str(beside.spec) == str(spec)
    assert beside.parity == spec.parity
    assert alone.parity.cases == spec.parity.cases


@pytest.mark.parametrize("regularizers", [(), (Zoneout(0.3, 0.2),)], ids=["plain", "zoned"])
@pytest.mark.parametrize("merge", ["concat", "sum"])
@pytest.mark.parametrize(("cell", "reset_after"), FLAVOURS)
def test_the_weights_in_a_file_are_those_of_the_model(
    cell: str, reset_after: bool, merge: str, regularizers: tuple[Any, ...], tmp_path: Path
) -> None:
    model = small_recurrent(
        cell,
        num_layers=2,
        bidirectional=True,
        merge=merge,
        reset_after=reset_after,
        regularizers=regularizers,
    )
    export_onnx(model, tmp_path / "model.onnx")

    rebuilt = rebuild(onnx.load(tmp_path / "model.onnx")).model

    x = torch.randn(3, 11, 3)
    torch.testing.assert_close(rebuilt(x)[0], model.eval()(x)[0], rtol=0, atol=1e-6)
    if not regularizers:
        for name, value in model.state_dict().items():
            assert torch.equal(rebuilt.state_dict()[name], value)


def test_a_file_of_other_weights_is_found_beside_the_model(tmp_path: Path) -> None:
    model = small_forecaster()
    export_onnx(model, tmp_path / "model.onnx")
    with torch.no_grad():
        model.head.linear.bias[0] += 0.01

    with pytest.raises(ParityError, match="output 'quantiles' differs"):
        check_file(tmp_path / "model.onnx", model)


def with_spec(path: Path, change: Callable[[pb.ModelSpec], object]) -> Path:
    file = onnx.load(path)
    spec = json_format.Parse(file.metadata_props[0].value, pb.ModelSpec())
    change(spec)
    onnx.helper.set_model_props(file, {"tidegate.spec": json_format.MessageToJson(spec)})
    onnx.save(file, path)
    return path


CHANGES: list[tuple[Callable[[pb.ModelSpec], object], type[Exception], str]] = [
    (lambda s: s.regularizers[0].rates.__setitem__("hidden", 0.21), ParityError, "differs"),
    (lambda s: s.forecast.scaler.center.__setitem__(1, 0.3), ParityError, "'quantiles' differs"),
    (lambda s: s.forecast.quantile_levels.append(0.95), ValueError, "graph's head_W has the shape"),
    (lambda s: s.forecast.targets.reverse(), ParityError, "'quantiles' differs"),
    (lambda s: s.inputs[0].shape.__setitem__(2, 4), ValueError, "spec.inputs is"),
    (lambda s: setattr(s, "contract", pb.INFERENCE_CONTRACT_IDENTITY), ValueError, "spec.contract"),
    (lambda s: setattr(s.states[1], "initial_value", 0.0), ValueError, "spec.states is"),
    (lambda s: s.ClearField("regularizers"), ValueError, "the graph has no weight 'W_l0'"),
    (lambda s: setattr(s, "spec_version", 2), ValueError, "spec_version=2; this version .* 1 to 1"),
    (lambda s: setattr(s.network, "cell", 0), ValueError, "spec.network.cell=0 is unknown"),
    (
        lambda s: setattr(s.regularizers[0], "name", "dropblock"),
        ValueError,
        "names 'dropblock', which is unknown",
    ),
]


@pytest.mark.parametrize(("change", "error", "text"), CHANGES, ids=[text for *_, text in CHANGES])
def test_a_spec_that_is_not_that_of_the_graph_is_found(
    change: Callable[[pb.ModelSpec], object], error: type[Exception], text: str, tmp_path: Path
) -> None:
    export_onnx(zoned_forecaster(), tmp_path / "model.onnx")

    with pytest.raises(error, match=text):
        check_file(with_spec(tmp_path / "model.onnx", change))


def test_a_graph_that_breaks_its_contract_is_found(tmp_path: Path) -> None:
    export_onnx(small_recurrent("gru"), tmp_path / "model.onnx")
    file = onnx.load(tmp_path / "model.onnx")
    file.graph.node.append(onnx.helper.make_node("RandomNormal", [], ["noise"], shape=[1]))
    onnx.save(file, tmp_path / "model.onnx")

    with pytest.raises(ContractError, match="holds RandomNormal"):
        check_file(tmp_path / "model.onnx")


def test_a_file_from_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no file"):
        check_file(tmp_path / "model.onnx")
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ValueError, match="is no valid ONNX file"):
        check_file(tmp_path / "model.onnx")
    export_onnx(small_recurrent("gru"), tmp_path / "model.onnx")
    file = onnx.load(tmp_path / "model.onnx")
    del file.metadata_props[:]
    onnx.save(file, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match=r"has no metadata 'tidegate\.spec'"):
        check_file(tmp_path / "model.onnx")


def test_the_trainer_checks_a_file_without_the_serving_half(tmp_path: Path) -> None:
    export_onnx(zoned_forecaster(), tmp_path / "model.onnx")

    done = run_without(
        (*SERVING, "mlflow"),
        "tidegate.train",
        ["export", "--check", str(tmp_path / "model.onnx")],
    )

    assert done.returncode == 0, done.stderr
    assert "spec, graph and the contract 'expectation' agree" in done.stdout
    assert "largest difference from its own weights in PyTorch:" in done.stdout
    assert "24 cases" in done.stdout


def test_the_command_says_what_is_wrong_with_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_onnx(zoned_forecaster(), tmp_path / "model.onnx")
    path = with_spec(tmp_path / "model.onnx", CHANGES[0][0])

    assert train(["export", "--check", str(path)]) == 2
    assert "output 'quantiles' differs" in capsys.readouterr().err
    assert train(["export", "--output", str(path)]) == 2
    assert "takes a checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["zoned forecaster", "labeller"])
def test_the_server_inspects_a_file_without_the_training_half(name: str, tmp_path: Path) -> None:
    export_onnx(MODELS[name](), tmp_path / "model.onnx", metrics={"mae": 0.5}, git_commit="c0ffee")

    done = run_without(TRAINING, "tidegate.serve", ["inspect", str(tmp_path / "model.onnx")])

    assert done.returncode == 0, done.stderr
    rows = {line[:14].strip(): line[14:] for line in done.stdout.splitlines()}
    assert rows["metrics"] == "mae 0.5"
    assert rows["git commit"] == "c0ffee"
    if name == "labeller":
        assert rows["task"] == "labelling, bidirectional"
        assert rows["labels"] == "NOUN, VERB, DET"
        assert rows["vocabulary"].startswith("6 words, lower case, sha256 ")
        assert "LSTM 2" in rows["operators"]
    else:
        assert rows["network"] == "2 layers of LSTM, 8 units"
        assert rows["regularizer"] == "zoneout(cell=0.3, hidden=0.2, shared=false): expectation"
        assert rows["input"].endswith(
            "x_previous float32 [one=1, batch, features=3], then x_previous_next; first nan"
        )
        assert rows["forecast"].startswith("level, load, 1 to 4 steps of h ahead, quantiles 0.1, ")
        assert "If 1" in rows["operators"]
        assert "Scan 2" in rows["operators"]


def test_the_spec_comes_as_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = export_onnx(small_recurrent("rnn"), tmp_path / "model.onnx")

    assert serve(["inspect", "--json", str(tmp_path / "model.onnx")]) == 0

    assert json.loads(capsys.readouterr().out) == json_format.MessageToDict(spec)


def test_inspect_refuses_a_file_that_contradicts_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_onnx(zoned_forecaster(), tmp_path / "model.onnx")
    with_spec(tmp_path / "model.onnx", lambda spec: spec.ClearField("contract"))

    assert serve(["inspect", str(tmp_path / "model.onnx")]) == 2
    assert "spec.contract is missing" in capsys.readouterr().err


def test_inspect_sends_no_control_characters_to_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_onnx(small_forecaster(), tmp_path / "model.onnx")
    path = with_spec(
        tmp_path / "model.onnx",
        lambda spec: setattr(spec.forecast.features[0], "unit", "\x1b[2Jppm"),
    )

    assert serve(["inspect", str(path)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_the_names_and_layouts_of_the_weights_are_pinned(tmp_path: Path) -> None:
    """A check finds the weights by them, in files of every age."""
    model = small_recurrent("lstm", num_layers=2)
    export_onnx(model, tmp_path / "model.onnx")
    tensors = {one.name: one for one in onnx.load(tmp_path / "model.onnx").graph.initializer}

    assert {"W_l0", "R_l0", "B_l0", "W_l1", "R_l1", "B_l1"} <= set(tensors)
    W = onnx.numpy_helper.to_array(tensors["W_l0"])
    i, o, f, c = np.split(W[0], 4)
    expected = model.weights(0, 0).weight_ih.detach().numpy()
    np.testing.assert_array_equal(np.concatenate([i, f, c, o]), expected)


@pytest.mark.parametrize("name", ["co2", "homographs"])
def test_the_reference_models_pass(name: str) -> None:
    path = Path(__file__).parents[2] / "models" / name / "1" / "model.onnx"

    checked = check_file(path)

    assert f"{checked.spec.parity.max_absolute_error:.1e} in {checked.parity.cases} cases" in (
        path.with_name("MODEL_CARD.md").read_text()
    )
