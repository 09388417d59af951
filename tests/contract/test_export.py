"""What every exported file promises, whoever runs it."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from google.protobuf import json_format
from numpy.typing import NDArray

from support.models import (
    FLAVOURS,
    Arrays,
    Session,
    small_forecaster,
    small_labeller,
    small_recurrent,
    zoned_forecaster,
)
from tidegate.train import Labeller, WeightDrop, Zoneout, awd, export_onnx
from tidegate.train.export import check_file
from tidegate.train.export.contract import census
from tidegate.train.export.rebuild import rebuild
from tidegate.v1 import model_spec_pb2 as pb

SHAPES = (
    {"num_layers": 1},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "merge": "sum"},
)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("cell", "reset_after"), FLAVOURS)
def test_every_cell_and_shape_passes_the_gate(
    cell: str, reset_after: bool, shape: dict[str, Any], tmp_path: Path
) -> None:
    model = small_recurrent(cell, reset_after=reset_after, **shape)

    spec = export_onnx(model, tmp_path / "model.onnx")

    assert spec.parity.cases == 24
    assert spec.parity.max_absolute_error < 1e-5


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_rates_per_layer_and_direction_reach_the_file_and_its_spec(
    cell: str, tmp_path: Path
) -> None:
    zoneout = Zoneout(cell=0.0, hidden=((0.1, 0.4), 0.0))
    drop = WeightDrop((0.1, (0.2, 0.3)), per_example=True)
    model = small_recurrent(cell, num_layers=2, bidirectional=True, regularizers=[zoneout, drop])

    spec = export_onnx(model, tmp_path / "model.onnx")

    # The rates of one layer make an expectation of the whole stack.
    operators = census(onnx.load(tmp_path / "model.onnx"))
    assert (operators["Scan"], operators[cell.upper()]) == (4, 0)
    assert spec.contract == pb.INFERENCE_CONTRACT_EXPECTATION
    assert spec.parity.max_absolute_error < 1e-5
    assert check_file(tmp_path / "model.onnx").spec == spec
    recorded = {one.name: one for one in spec.regularizers}
    assert dict(recorded["zoneout"].rates) == {
        "cell": 0.0,
        "hidden_l0": 0.1,
        "hidden_l0_reverse": 0.4,
        "hidden_l1": 0.0,
    }
    assert dict(recorded["weight_drop"].rates) == {
        "p_l0": 0.1,
        "p_l1": 0.2,
        "p_l1_reverse": 0.3,
    }
    assert recorded["weight_drop"].options["per_example"] == "true"


def test_a_file_has_the_opset_that_onnx_runtime_takes(tmp_path: Path) -> None:
    export_onnx(small_labeller(), tmp_path / "model.onnx")

    model = onnx.load(tmp_path / "model.onnx")
    assert (model.opset_import[0].version, model.ir_version) == (22, 10)


def test_a_file_is_little_more_than_its_weights(tmp_path: Path) -> None:
    model = small_recurrent("gru", num_layers=2)
    large = type(model)("gru", 3, 128, 2)

    export_onnx(large, tmp_path / "model.onnx")

    weights = sum(parameter.numel() * 4 for parameter in large.parameters())
    assert (tmp_path / "model.onnx").stat().st_size < 1.02 * weights


def test_the_spec_in_the_file_is_the_spec_returned(tmp_path: Path) -> None:
    spec = export_onnx(
        small_forecaster(),
        tmp_path / "model.onnx",
        metrics={"mae": 0.5},
        data_digest="d1",
        git_commit="c0ffee",
    )

    stored = Session(tmp_path / "model.onnx").metadata["tidegate.spec"]
    # As text: NaN, the value of a state before the first observation, equals nothing.
    assert str(json_format.Parse(stored, pb.ModelSpec())) == str(spec)
    assert spec.metrics["mae"] == 0.5
    assert spec.provenance.git_commit == "c0ffee"


def test_the_spec_of_a_forecaster_says_what_a_client_needs(tmp_path: Path) -> None:
    spec = export_onnx(small_forecaster("lstm"), tmp_path / "model.onnx")

    assert spec.task == pb.TASK_FORECASTING
    assert spec.direction == pb.DIRECTION_CAUSAL
    assert [(one.name, one.unit) for one in spec.forecast.features] == [
        ("level", "ppm"),
        ("temperature", "K"),
        ("load", ""),
    ]
    assert list(spec.forecast.targets) == ["level", "load"]
    assert spec.forecast.horizon == 4
    assert list(spec.forecast.quantile_levels) == [0.1, 0.5, 0.9]
    pairs = [(one.input, one.output, list(one.shape)) for one in spec.states]
    assert pairs == [
        ("h", "h_next", [2, -1, 8]),
        ("c", "c_next", [2, -1, 8]),
        ("x_previous", "x_previous_next", [1, -1, 3]),
    ]
    assert np.isnan(spec.states[2].initial_value)


def test_a_state_that_nothing_needs_is_not_there(tmp_path: Path) -> None:
    spec = export_onnx(small_forecaster(differenced=False), tmp_path / "model.onnx")

    assert [one.input for one in spec.states] == ["h"]


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="model is a Linear; export_onnx takes one of Recurrent"):
        export_onnx(torch.nn.Linear(1, 1), tmp_path / "model.onnx")


def test_exporting_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = small_forecaster().double().train()

    export_onnx(model, tmp_path / "model.onnx")

    assert model.training
    assert model.head.linear.weight.dtype == torch.float64


@pytest.fixture(scope="module", params=["gru", "lstm", "zoned gru", "zoned lstm"])
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Session:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    *zoned, cell = request.param.split()
    export_onnx(zoned_forecaster(cell) if zoned else small_forecaster(cell), path)
    return Session(path)


def initial(session: Session, batch: int) -> Arrays:
    spec = json_format.Parse(session.metadata["tidegate.spec"], pb.ModelSpec())
    return {
        state.input: np.full(
            [batch if n == -1 else n for n in state.shape], state.initial_value
        ).astype(np.float32)
        for state in spec.states
    }


def run(session: Session, x: NDArray[Any], states: Arrays) -> tuple[NDArray[Any], Arrays]:
    lengths = np.full(len(x), x.shape[1], np.int32)
    outputs = session.run({"x": x, "lengths": lengths, **states})
    quantiles = outputs.pop("quantiles")
    return quantiles, {name.removesuffix("_next"): value for name, value in outputs.items()}


def observations(batch: int, time: int) -> NDArray[np.float32]:
    walk = np.random.default_rng(3).normal(size=(batch, time, 3)).cumsum(axis=1)
    raw: NDArray[np.float32] = (walk + np.array([300.0, 10.0, -50.0])).astype(np.float32)
    return raw


@pytest.mark.parametrize("time", [1, 3])
def test_a_forecast_is_the_same_bits_alone_and_in_any_batch(session: Session, time: int) -> None:
    x = observations(64, time)
    alone = [run(session, x[row : row + 1], initial(session, 1))[0] for row in range(64)]

    for batch in (2, 3, 7, 8, 16, 31, 64):
        together, _ = run(session, x[:batch], initial(session, batch))
        for row in range(batch):
            assert together[row].tobytes() == alone[row].tobytes()


def test_padding_changes_nothing_even_when_it_is_not_finite(session: Session) -> None:
    x = observations(2, 9)
    alone, states = run(session, x[:1, :4], initial(session, 1))
    x[0, 4:] = np.nan

    inputs = {"x": x, "lengths": np.array([4, 9], np.int32), **initial(session, 2)}
    outputs = session.run(inputs)

    assert outputs["quantiles"][0, :4].tobytes() == alone[0].tobytes()
    for name, value in states.items():
        assert outputs[f"{name}_next"][:, :1].tobytes() == value.tobytes()


def test_quantiles_never_cross(session: Session) -> None:
    quantiles, _ = run(session, observations(4, 30), initial(session, 4))

    assert (np.diff(quantiles, axis=-1) >= 0).all()


def test_the_spec_of_a_labeller_names_its_vocabulary(tmp_path: Path) -> None:
    model = small_labeller()

    spec = export_onnx(model, tmp_path / "model.onnx")

    assert list(spec.labelling.words) == list(model.words)
    lines = "<pad>\n<unk>\nopen\nclose\nthe\ngate\n"
    assert spec.labelling.vocabulary_digest == hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_labeller_gives_labels_and_their_probabilities(
    bidirectional: bool, tmp_path: Path
) -> None:
    model = small_labeller(bidirectional=bidirectional)
    export_onnx(model, tmp_path / "model.onnx")
    tokens = np.array([model.encode(["The", "gate", "gates"]), [2, 4, 5]])

    outputs = Session(tmp_path / "model.onnx").run(
        {"tokens": tokens, "lengths": np.array([3, 3], np.int32)}
    )

    assert tokens[0].tolist() == [4, 5, 1]
    np.testing.assert_allclose(outputs["probabilities"].sum(axis=-1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(outputs["probabilities"].argmax(axis=-1), outputs["labels"])


def test_a_labeller_with_dropped_words_is_exported_and_rebuilt_with_its_recipe(
    tmp_path: Path,
) -> None:
    recipe = awd(2, words=True)

    spec = export_onnx(small_labeller(regularizers=recipe), tmp_path / "model.onnx")

    assert spec.contract == pb.INFERENCE_CONTRACT_IDENTITY
    assert [one.name for one in spec.regularizers] == [
        "weight_drop",
        "zaremba",
        "embedding_dropout",
    ]
    assert dict(spec.regularizers[2].rates) == {"p": 0.1}
    rebuilt = rebuild(onnx.load(tmp_path / "model.onnx")).model
    assert isinstance(rebuilt, Labeller)
    assert rebuilt.recurrent.regularizers == recipe
