"""The gate between PyTorch and ONNX Runtime: what it measures, and that it closes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from support.models import small_forecaster, small_labeller, small_recurrent, zoned_forecaster
from tidegate.train import ParityError, Recurrent, export_onnx
from tidegate.train.export import parity, weights

Change = Callable[[onnx.ModelProto], object]


def changed(path: Path, change: Change) -> bytes:
    model = onnx.load(path)
    change(model)
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def node(model: onnx.ModelProto, operator: str) -> onnx.NodeProto:
    return next(one for one in model.graph.node if one.op_type == operator)


@pytest.mark.parametrize("model", [small_forecaster(), zoned_forecaster("lstm")], ids=["gru", "z"])
def test_every_length_batch_padding_and_state_is_a_case(
    model: torch.nn.Module, tmp_path: Path
) -> None:
    spec = export_onnx(model, tmp_path / "model.onnx")

    cases = list(parity._cases(spec))
    assert len(set(cases)) == len(cases) == spec.parity.cases == 3 * 2 * 2 * 2
    assert {case.time for case in cases} == {1, 7, 200}
    assert {case.batch for case in cases} == {1, 5}


def test_the_largest_differences_and_their_place_are_in_the_file(tmp_path: Path) -> None:
    spec = export_onnx(small_forecaster(), tmp_path / "model.onnx")

    # Raw values about 300: a rounding of float32 there is 3e-5.
    assert 0 < spec.parity.max_absolute_error < 1e-3
    assert 0 < spec.parity.max_relative_error < 1e-6
    assert spec.parity.largest_at.startswith(("quantiles, time=", "h_next, time="))


def test_inputs_are_drawn_where_the_data_lies(tmp_path: Path) -> None:
    model = small_forecaster()
    spec = export_onnx(model, tmp_path / "model.onnx")

    case = parity.Case(time=200, batch=5, ragged=False, with_state=True)
    inputs = parity._draw(model, spec, case, torch.Generator().manual_seed(0))

    assert abs(inputs["x"][..., 0].mean() - 300) < 30
    assert np.isfinite(inputs["x_previous"]).all()
    assert np.abs(inputs["h"]).max() > 0.9


def test_over_the_limit_nothing_is_written_and_an_older_file_stays(tmp_path: Path) -> None:
    model = small_forecaster()
    with torch.no_grad():
        model.head.linear.weight[0, 0] = torch.nan
    older = tmp_path / "model.onnx"
    older.write_bytes(b"older")

    with pytest.raises(
        ParityError, match=r"output 'quantiles' .* nan at time=1, batch=1, full rows, the initial"
    ):
        export_onnx(model, older)

    assert list(tmp_path.iterdir()) == [older]
    assert older.read_bytes() == b"older"


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_gates_in_a_wrong_order_are_found(
    cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # torch's own order, as a careless exporter would keep it.
    monkeypatch.setitem(weights.OPERATOR_ORDER, cell, tuple(range(4 if cell == "lstm" else 3)))

    with pytest.raises(ParityError, match=r"output 'output' differs .* at time=1, batch=1"):
        export_onnx(small_recurrent(cell), tmp_path / "model.onnx")

    assert list(tmp_path.iterdir()) == []


FAULTS: dict[str, tuple[Change, str]] = {
    "lengths that are not used": (
        lambda model: node(model, "GRU").input.__setitem__(4, ""),
        r"output '(output|h_next)' differs .* at time=7, batch=1, ragged rows",
    ),
    "a state that is not used": (
        lambda model: node(model, "GRU").input.__setitem__(5, ""),
        "at time=1, batch=1, full rows, a drawn state",
    ),
    "the other flavour of the GRU": (
        lambda model: node(model, "GRU").attribute[2].__setattr__("i", 0),
        "output 'output' differs",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_graph_is_found_in_the_first_case_that_shows_it(
    fault: str, tmp_path: Path
) -> None:
    change, text = FAULTS[fault]
    model = small_recurrent("gru").eval()
    spec = export_onnx(model, tmp_path / "model.onnx")

    with pytest.raises(ParityError, match=text):
        parity.measure_parity(model, spec, changed(tmp_path / "model.onnx", change))


def test_layers_whose_states_change_places_are_found(tmp_path: Path) -> None:
    def swap(model: onnx.ModelProto) -> None:
        concat = node(model, "Concat")
        concat.input[:] = reversed(concat.input)

    model = small_recurrent("gru", num_layers=2).eval()
    spec = export_onnx(model, tmp_path / "model.onnx")

    with pytest.raises(ParityError, match="output 'h_next' differs"):
        parity.measure_parity(model, spec, changed(tmp_path / "model.onnx", swap))


def test_another_label_than_the_most_probable_is_found(tmp_path: Path) -> None:
    def worst(model: onnx.ModelProto) -> None:
        node(model, "ArgMax").op_type = "ArgMin"

    model = small_labeller()
    spec = export_onnx(model, tmp_path / "model.onnx")

    with pytest.raises(ParityError, match="output 'labels' differs"):
        parity.measure_parity(model, spec, changed(tmp_path / "model.onnx", worst))


def test_a_difference_of_a_thousandth_in_a_rate_is_found(tmp_path: Path) -> None:
    model = zoned_forecaster()
    spec = export_onnx(model, tmp_path / "model.onnx")
    (one,) = model.recurrent.regularizers
    other = Recurrent(
        "gru",
        3,
        8,
        2,
        regularizers=[type(one)(cell=0.3, hidden=0.2002)],  # type: ignore[call-arg] # a Zoneout
    )
    other.load_state_dict(model.recurrent.state_dict())
    model.recurrent = other.eval()

    with pytest.raises(ParityError, match="differs between PyTorch and ONNX Runtime"):
        parity.measure_parity(model, spec, (tmp_path / "model.onnx").read_bytes())


def test_a_gpu_that_is_not_there_is_an_error_and_never_a_silent_cpu(tmp_path: Path) -> None:
    model = small_recurrent("gru").eval()
    spec = export_onnx(model, tmp_path / "model.onnx")
    file = (tmp_path / "model.onnx").read_bytes()
    session = onnxruntime.InferenceSession(file, providers=["CUDAExecutionProvider"])
    if "CUDAExecutionProvider" in session.get_providers():
        pytest.skip("this machine has a working CUDA device")

    with pytest.raises(ValueError, match="provider='cuda' does not work here"):
        parity.measure_parity(model, spec, file, "cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_gpu_without_tf32_passes_the_same_gate(cell: str, tmp_path: Path) -> None:
    model = small_recurrent(cell, num_layers=2).eval()
    spec = export_onnx(model, tmp_path / "model.onnx")

    found = parity.measure_parity(model, spec, (tmp_path / "model.onnx").read_bytes(), "cuda")

    assert found.max_absolute_error < 1e-5


def test_the_file_is_held_against_the_network_and_not_against_its_rounding(tmp_path: Path) -> None:
    model, seen = small_recurrent("gru").eval(), set()
    spec = export_onnx(model, tmp_path / "model.onnx")
    model.register_forward_hook(lambda _model, _inputs, outputs: seen.add(outputs[0].dtype))

    parity.measure_parity(model, spec, (tmp_path / "model.onnx").read_bytes())

    assert seen == {torch.float64}
    assert next(model.parameters()).dtype == torch.float32
