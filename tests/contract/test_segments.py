"""Segmented networks in their file, and over a real server."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from support.models import HEADS, Session, segmented_forecaster
from support.server import running_server
from tidegate.client import Client
from tidegate.train import Forecaster, Zoneout, export_onnx
from tidegate.train.export import check_file
from tidegate.train.export.rebuild import rebuild
from tidegate.v1 import model_spec_pb2 as pb

TIME = 23
CASES: list[dict[str, Any]] = [
    {"cell": cell, "segment": segment, "channel_independent": channels}
    for cell, segment, channels in itertools.product(("gru", "lstm"), (1, 4), (True, False))
    if segment > 1 or channels
]
CASES += [{**CASES[0], "segment": 4, "regularizers": [Zoneout(cell=0.3, hidden=0.2)]}]
CASES += [
    {"segment": segment, "channel_independent": True, "lags": lags}
    for segment, lags in ((1, 1), (1, 5), (4, 2), (4, 9))
]


def initial(spec: pb.ModelSpec, batch: int) -> dict[str, np.ndarray]:
    return {
        state.input: np.full(
            [batch if size == -1 else size for size in state.shape],
            state.initial_value,
            np.float32,
        )
        for state in spec.states
    }


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("cuts", [list(range(1, TIME)), [3, 4, 11], [22]], ids=["1", "some", "end"])
def test_a_file_streams_bit_for_bit_however_a_series_is_cut(
    case: dict[str, Any], cuts: list[int], tmp_path: Path
) -> None:
    model = segmented_forecaster(**case)
    spec = export_onnx(model, tmp_path / "model.onnx")
    file = Session(tmp_path / "model.onnx")
    x = model.example(2, TIME, torch.Generator().manual_seed(0)).numpy()

    whole = file.run({"x": x, "lengths": np.full(2, TIME, np.int32), **initial(spec, 2)})
    states, parts = initial(spec, 2), []
    for start, stop in itertools.pairwise([0, *cuts, TIME]):
        lengths = np.full(2, stop - start, np.int32)
        outputs = file.run({"x": x[:, start:stop], "lengths": lengths, **states})
        states = {state.input: outputs[state.output] for state in spec.states}
        parts.append(outputs["quantiles"])

    assert np.concatenate(parts, axis=1).tobytes() == whole["quantiles"].tobytes()
    for state in spec.states:
        assert states[state.input].tobytes() == whole[state.output].tobytes()


@pytest.mark.parametrize("lags", [0, 9])
@pytest.mark.parametrize("head", HEADS)
def test_a_file_of_a_shared_head_passes_the_check_from_its_own_weights(
    head: str, lags: int, tmp_path: Path
) -> None:
    model = segmented_forecaster(channel_independent=True, head=head, lags=lags)
    spec = export_onnx(model, tmp_path / "model.onnx")

    assert (spec.forecast.segment, spec.forecast.channel_independent) == (4, True)
    assert spec.forecast.lags == lags
    assert check_file(tmp_path / "model.onnx").parity.max_relative_error < 1e-5


def test_a_file_of_many_lags_agrees_with_its_network_and_comes_back_as_it(tmp_path: Path) -> None:
    model = segmented_forecaster(segment=4, channel_independent=True, lags=336)

    spec = export_onnx(model, tmp_path / "model.onnx")

    assert spec.parity.max_relative_error < 1e-6
    rebuilt = rebuild(onnx.load(tmp_path / "model.onnx")).model
    assert isinstance(rebuilt, Forecaster)
    torch.testing.assert_close(
        rebuilt.head.linear.weight, model.head.linear.weight, rtol=1e-5, atol=1e-6
    )
    assert {state.input: list(state.shape) for state in spec.states}["reads"] == [335, -1, 3]


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_states_are_declared_with_their_shapes(cell: str, tmp_path: Path) -> None:
    spec = export_onnx(segmented_forecaster(cell), tmp_path / "model.onnx")

    shapes = {state.input: list(state.shape) for state in spec.states}
    rings = {name: [2 * 4, -1, 8] for name in (("h", "c") if cell == "lstm" else ("h",))}
    assert shapes == rings | {"reads": [3, -1, 3], "x_previous": [1, -1, 3]}


@pytest.mark.parametrize("head", HEADS)
def test_a_stream_goes_on_from_a_checkpoint_on_another_server(head: str, tmp_path: Path) -> None:
    """Rings, what was read, and the last value: all of the state is in the token."""
    model = segmented_forecaster(channel_independent=True, lags=9, head=head)
    spec = export_onnx(model, tmp_path / "models" / "m" / "1" / "model.onnx")
    x = model.example(1, TIME, torch.Generator().manual_seed(0)).numpy()
    (tmp_path / "key").write_bytes(bytes(32))
    options = {"checkpoint_key_file": tmp_path / "key"}
    file = Session(tmp_path / "models" / "m" / "1" / "model.onnx")
    whole = file.run({"x": x, "lengths": np.full(1, TIME, np.int32), **initial(spec, 1)})

    with running_server(tmp_path / "models", **options) as target, Client(target) as client:
        with client.stream("m", "a", every_step=True) as stream:
            first = stream.send("a", x[0, :11])
            token = stream.checkpoint("a")
        (window,) = client.forecast("m", [x[0]])
    with (
        running_server(tmp_path / "models", **options) as target,
        Client(target) as client,
        client.stream("m", {"a": token}, every_step=True) as stream,
    ):
        rest = [stream.step("a", row) for row in x[0, 11:]]

    forecasts = np.concatenate([first, rest])
    assert forecasts.tobytes() == whole["quantiles"][0].tobytes()
    np.testing.assert_array_equal(window, forecasts[-1])
