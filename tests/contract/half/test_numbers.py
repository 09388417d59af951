"""Numbers of float16 files: near those of float32, in any unit, batch and stream."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from support.half_models import Files
from support.large_models import HIDDEN, WALK, forecaster
from support.models import Session
from support.server import running_server
from tidegate.client import Client
from tidegate.train import export_onnx
from tidegate.train.export import WeightFormat
from tidegate.train.export.half import HALF
from tidegate.train.export.rebuild import read_spec
from tidegate.train.recurrent import CellName

CELLS: tuple[CellName, ...] = ("gru", "lstm")
WEIGHTS: tuple[WeightFormat, ...] = ("float32", "float16")


def weights_of(path: Path) -> dict[str, NDArray[Any]]:
    return {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_raw_units_may_be_of_any_size(unit: float, tmp_path: Path) -> None:
    model = forecaster(unit)
    found = {}
    for weights in WEIGHTS:
        spec = export_onnx(model, tmp_path / f"{weights}.onnx", weights=weights)
        states = {one.input: np.zeros((2, 1, HIDDEN), np.float32) for one in spec.states}
        states["x_previous"] = np.full((1, 1, 3), np.nan, np.float32)
        x = (WALK[None] * unit).astype(np.float32)
        inputs = {"x": x, "lengths": np.full(1, len(WALK), np.int32), **states}
        found[weights] = Session(tmp_path / f"{weights}.onnx").run(inputs)["quantiles"]
    off = np.abs(found["float16"] - found["float32"]).max(axis=(0, 1, 2, 4))
    # Measured: 5e-4 of a target's scale.
    assert (off < 2e-3 * model.target_scale.numpy()).all()
    head = weights_of(tmp_path / "float16.onnx").keys() & {"head_W", f"head_W{HALF}"}
    assert head == {f"head_W{HALF}" if unit == 1 else "head_W"}


def test_an_observation_beyond_the_range_of_float16_is_read_as_its_largest_number(
    files: Files, tmp_path: Path
) -> None:
    model = onnx.load(files.path("forecaster"))
    (clip,) = (one for one in model.graph.node if one.op_type == "Clip")
    (cast,) = (one for one in model.graph.node if clip.output[0] in one.input)
    half = onnx.TensorProto.FLOAT16
    model.graph.output.append(onnx.helper.make_tensor_value_info(cast.output[0], half, None))
    onnx.save(model, tmp_path / "m.onnx")
    x = WALK[None, :3].astype(np.float32)
    x[0, 1, 1:] = [1e9, -1e9]
    inputs = {
        "x": x,
        "lengths": np.full(1, 3, np.int32),
        "h": np.zeros((2, 1, HIDDEN), np.float32),
        "x_previous": np.full((1, 1, 3), np.nan, np.float32),
    }
    read = Session(tmp_path / "m.onnx").run(inputs)[cast.output[0]]
    assert read.dtype == np.float16
    assert read[1, 0, 1:].tolist() == [65504, -65504]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("models")
    for cell, weights in itertools.product(CELLS, WEIGHTS):
        path = folder / f"{cell}-{weights}" / "1" / "model.onnx"
        export_onnx(forecaster(cell=cell), path, weights=weights)
    with running_server(folder) as target, Client(target) as client:
        yield client


@pytest.mark.parametrize("cell", CELLS)
def test_the_server_streams_what_the_whole_series_gives_near_that_of_float32(
    served: Client, cell: str
) -> None:
    rows, streams = WALK.astype(np.float32), {}
    for weights in WEIGHTS:
        name = f"{cell}-{weights}"
        with served.stream(name, ["a"], every_step=True) as stream:
            parts = [stream.send("a", part) for part in np.split(rows, [1, 2, 40])]
        streams[weights] = np.concatenate(parts)
        np.testing.assert_allclose(streams[weights][-1], served.forecast(name, [rows])[0], 1e-6)
    scale = forecaster().target_scale.numpy()[:, None]
    off = np.abs(streams["float16"] - streams["float32"]) / scale
    # Measured: 5e-4.
    assert 0 < off.max() < 2e-3


@pytest.mark.parametrize("kind", ["gru", "lstm", "rnn", "forecaster"])
def test_no_row_depends_on_its_batch(kind: str, files: Files) -> None:
    spec = read_spec(onnx.load(files.path(kind)))
    session = Session(files.path(kind))
    width = spec.inputs[0].shape[2]
    x = np.random.default_rng(0).normal(size=(4, 12, width)).astype(np.float32)
    x[1:] *= 100

    def run(rows: NDArray[Any]) -> NDArray[Any]:
        states = {
            one.input: np.zeros([len(rows) if n == -1 else n for n in one.shape], np.float32)
            for one in spec.states
        }
        lengths = np.full(len(rows), rows.shape[1], np.int32)
        first: NDArray[Any] = session.run({"x": rows, "lengths": lengths, **states})["h_next"][:, 0]
        return first

    np.testing.assert_allclose(run(x[:1]), run(x), atol=1e-6)
