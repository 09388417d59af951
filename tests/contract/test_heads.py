"""Every head in its file: what PyTorch says, what the server serves."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from support.models import HEADS, Session, forecaster_with
from tidegate.serve.model import load_model
from tidegate.serve.settings import Settings
from tidegate.train import Forecaster, export_onnx
from tidegate.train.export import check_file
from tidegate.train.heads import NegativeBinomialHead, StudentTHead
from tidegate.train.heads.quantile import QuantileHead

OUTPUTS = {
    "quantile": {"quantiles"},
    "squareplus": {"quantiles"},
    "student_t": {"quantiles", "loc", "scale"},
    "negative_binomial": {"quantiles", "mean"},
}


def feeds(model: Forecaster, time: int = 6) -> dict[str, np.ndarray]:
    x = model.example(2, time, torch.Generator().manual_seed(0)).numpy()
    state = [one.numpy() for one in model.initial_state(2)]
    return {"x": x, "lengths": np.full(2, time, np.int32), "h": state[0], "x_previous": state[1]}


@pytest.mark.parametrize("name", HEADS)
def test_a_file_has_what_its_head_says_and_the_server_takes_it(name: str, tmp_path: Path) -> None:
    spec = export_onnx(forecaster_with(name), tmp_path / "model.onnx")

    states = {state.output for state in spec.states}
    assert {output.name for output in spec.outputs} - states == OUTPUTS[name]
    assert spec.outputs[0].name == "quantiles"
    served = load_model("m", "1", tmp_path / "model.onnx", Settings(provider="cpu"))
    assert served.spec.forecast.head == spec.forecast.head


@pytest.mark.parametrize("name", HEADS)
def test_a_file_of_every_head_passes_the_check_from_its_own_weights(
    name: str, tmp_path: Path
) -> None:
    model = forecaster_with(name)
    model.offsets += torch.arange(24).view(4, 2, 3)
    export_onnx(model, tmp_path / "model.onnx")

    assert check_file(tmp_path / "model.onnx").parity.max_relative_error < 1e-5


def test_offsets_in_a_file_are_those_of_the_model(tmp_path: Path) -> None:
    model = forecaster_with("quantile")
    export_onnx(model, tmp_path / "plain.onnx")
    offsets = torch.arange(24.0).view(4, 2, 3)
    model.offsets += offsets
    export_onnx(model, tmp_path / "offset.onnx")

    plain, offset = (
        Session(tmp_path / f"{one}.onnx").run(feeds(model))["quantiles"]
        for one in ("plain", "offset")
    )

    np.testing.assert_allclose(
        offset - plain, np.broadcast_to(offsets, plain.shape), rtol=1e-4, atol=1e-4
    )


def test_a_quantile_of_counts_rises_where_the_mean_passes_its_threshold(tmp_path: Path) -> None:
    model = forecaster_with("negative_binomial")
    head = model.head
    assert isinstance(head, NegativeBinomialHead)
    export_onnx(model, tmp_path / "model.onnx")

    outputs = Session(tmp_path / "model.onnx").run(feeds(model, time=100))

    expected = head.quantiles({"mean": torch.from_numpy(outputs["mean"])})
    np.testing.assert_array_equal(outputs["quantiles"], expected)
    assert len(np.unique(outputs["quantiles"])) > 10


def test_the_spec_holds_what_a_reader_needs_to_know_the_distribution(tmp_path: Path) -> None:
    t, counts, plain = (
        export_onnx(forecaster_with(name), tmp_path / name).forecast.head
        for name in ("student_t", "negative_binomial", "quantile")
    )

    assert (t.name, len(t.degrees_of_freedom)) == ("student_t", 4 * 2)
    assert (counts.name, len(counts.dispersion), counts.largest_count) == (
        "negative_binomial",
        2,
        1023,
    )
    assert (plain.name, plain.steps) == ("quantile", "absolute")


@pytest.mark.parametrize(("name", "nodes"), [("quantile", 8), ("squareplus", 14)])
def test_quantiles_that_cannot_cross_cost_few_nodes(name: str, nodes: int, tmp_path: Path) -> None:
    """After the network: a stream pays for each at every observation."""
    export_onnx(forecaster_with(name, differenced=False), tmp_path / "model.onnx")
    operators = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]

    last = len(operators) - 1 - operators[::-1].index("GRU")
    # One joins the states of the layers.
    assert len(operators[last + 1 :]) - 1 == nodes


def test_a_head_that_the_reader_does_not_know_is_refused(tmp_path: Path) -> None:
    export_onnx(forecaster_with("quantile"), tmp_path / "model.onnx")
    file = onnx.load(tmp_path / "model.onnx")
    for entry in file.metadata_props:
        entry.value = entry.value.replace('"name": "quantile"', '"name": "mixture"')
    onnx.save(file, tmp_path / "model.onnx")

    with pytest.raises(ValueError, match=r"spec\.forecast\.head\.name='mixture' is unknown"):
        check_file(tmp_path / "model.onnx")


def test_the_models_here_have_heads_of_every_kind() -> None:
    kinds = {type(forecaster_with(name).head) for name in HEADS}
    assert kinds == {QuantileHead, StudentTHead, NegativeBinomialHead}
