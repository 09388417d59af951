"""float16 files: half the size, float32 at the borders, judged in float16 arithmetic."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from support.large_models import HIDDEN, MODELS, WALK, network
from support.models import HEADS, Session
from support.server import running_server
from support.trained import trained_language_model
from tidegate.client import Client
from tidegate.serve.inspection import describe
from tidegate.serve.model import load_model
from tidegate.serve.settings import Settings
from tidegate.train import Forecaster, ParityError, Recurrent, Zoneout, checkpoint, export_onnx, job
from tidegate.train.__main__ import main
from tidegate.train.export import WeightFormat, check_file, limits
from tidegate.train.export.half import HALF
from tidegate.train.export.half_arithmetic import with_half_arithmetic
from tidegate.train.export.rebuild import read_spec, rebuild
from tidegate.train.export.spec import recurrent_of
from tidegate.train.recurrent import CellName
from tidegate.train.scaler import StandardScaler

OPERATORS = {"LSTM", "GRU", "RNN"}
CELLS: tuple[CellName, ...] = ("gru", "lstm")
WEIGHTS: tuple[WeightFormat, ...] = ("float32", "float16")
FEATURES = ("level", "temperature", "load")


def forecaster(unit: float = 1.0, cell: CellName = "gru", **options: Any) -> Forecaster:
    torch.manual_seed(0)
    scaler = StandardScaler.fit(WALK * unit, (True, False, False))
    common: dict[str, Any] = {
        "features": FEATURES,
        "targets": ("level", "load"),
        "horizon": 12,
        "quantile_levels": (0.1, 0.5, 0.9),
        "scaler": scaler,
        "frequency": "h",
    }
    regularizers = options.pop("regularizers", ())
    width = options.get("segment", len(FEATURES))
    read = Recurrent(cell, width, HIDDEN, 2, regularizers=regularizers)
    return Forecaster(read, **common | options).eval()


def segmented() -> Forecaster:
    return forecaster(
        segment=4,
        channel_independent=True,
        lags=20,
        targets=FEATURES,
        scaler=StandardScaler.fit(WALK, (True, True, True)),
    )


COUNTS = StandardScaler.fit(np.abs(WALK), (False, False, False))
KINDS: dict[str, nn.Module] = {
    **MODELS,
    "rnn": network("rnn", bidirectional=True),
    "gru-reset-before": network("gru", reset_after=False),
    **{
        f"forecaster {name}": forecaster(cell="lstm", scaler=COUNTS, **options)
        for name, options in HEADS.items()
    },
    "forecaster of segments": segmented(),
    "forecaster with zoneout": forecaster(regularizers=[Zoneout(0.3, 0.2)]),
}


def weights_of(path: Path) -> dict[str, NDArray[Any]]:
    return {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}


class Files:
    """A float16 file of each kind, written when first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, kind: str) -> Path:
        path = self._folder / f"{kind}.onnx"
        if not path.exists():
            export_onnx(KINDS[kind].eval(), path, weights="float16")
        return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("files"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_float16_passes_the_gate_again_and_is_served(kind: str, files: Files) -> None:
    path = files.path(kind)
    checked = check_file(path)
    assert checked.parity == checked.spec.parity
    assert dict(describe(checked.spec))["weights"] == "float16"
    loaded = load_model("m", "1", path, Settings(provider="cpu"))
    assert loaded.spec.weights == "float16"


@pytest.mark.parametrize("kind", MODELS)
def test_a_file_of_float16_has_about_half_the_size(kind: str, files: Files, tmp_path: Path) -> None:
    export_onnx(MODELS[kind].eval(), tmp_path / "float32.onnx")
    whole = (tmp_path / "float32.onnx").stat().st_size
    assert files.path(kind).stat().st_size < 0.56 * whole


def test_a_file_of_float16_is_not_that_of_the_trained_weights(files: Files) -> None:
    with pytest.raises(ParityError, match="differs between PyTorch and ONNX Runtime"):
        check_file(files.path("lstm"), MODELS["lstm"])


@pytest.mark.parametrize("kind", KINDS)
def test_recurrent_operators_compute_in_float16_and_nothing_else(kind: str, files: Files) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load(files.path(kind)))
    graph = model.graph
    borders = [*graph.input, *graph.output]
    assert all(one.type.tensor_type.elem_type != onnx.TensorProto.FLOAT16 for one in borders)
    halves = {one.name for one in graph.initializer if one.data_type == onnx.TensorProto.FLOAT16}
    inner = (*graph.value_info, *borders)
    halves |= {
        one.name for one in inner if one.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    }
    readers = {node.op_type for node in graph.node if halves & set(node.input)}
    assert readers - {"Cast"} <= OPERATORS
    for node in graph.node:
        if node.op_type in OPERATORS:
            read = [name for place, name in enumerate(node.input) if name and place != 4]
            assert halves >= {*read, *filter(None, node.output)}


def test_every_weight_is_the_nearest_of_float16(files: Files) -> None:
    rounded = rebuild(onnx.load(files.path("lstm"))).model
    for name, weight in MODELS["lstm"].named_parameters():
        assert torch.equal(rounded.get_parameter(name), weight.half().float())


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


def test_over_the_limit_of_float16_arithmetic_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HALF", 1e-4)
    with pytest.raises(ParityError, match="differs between PyTorch and PyTorch in float16 by"):
        export_onnx(MODELS["gru"], tmp_path / "m.onnx", weights="float16")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_float16_is_refused_with_the_reason(tmp_path: Path) -> None:
    def export(model: nn.Module, **arguments: Any) -> None:
        export_onnx(model, tmp_path / "m.onnx", weights="float16", **arguments)

    with pytest.raises(ValueError, match="no weight matrix has 1024 values that float16 holds"):
        export(Recurrent("gru", 2, 3))
    large = network("gru")
    with torch.no_grad():
        large.get_parameter("weight_ih_l1")[0, 0] = 7e4
    with pytest.raises(ValueError, match="W_l1 holds 70000, beyond 65504, the largest number of"):
        export(large)
    with pytest.raises(ValueError, match="weights='float16'; a file is one variant: choose"):
        export(MODELS["gru"], mc_masks=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["forecaster of segments", "labeller", "language model"])
def test_the_judge_is_given_networks_in_float16_arithmetic(name: str, tmp_path: Path) -> None:
    judged: list[Any] = []

    def judge(model: nn.Module) -> dict[str, float]:
        judged.append(model)
        return {"score": 0.5}

    spec = export_onnx(KINDS[name].eval(), tmp_path / "m.onnx", weights="float16", judge=judge)
    assert spec.metrics == {"score": 0.5}
    (model,) = judged
    read = model.example(3, 9, torch.Generator().manual_seed(0))
    outputs, recurrent = [], recurrent_of(model)
    recurrent.register_forward_hook(lambda *called: outputs.append(called[2][0]))
    assert {one.dtype for one in recurrent.parameters()} == {torch.float16}
    with torch.no_grad():
        model(read, torch.tensor([9, 4, 1]))
    assert outputs[0].dtype == torch.float32
    assert torch.equal(outputs[0], outputs[0].half().float())


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    return trained_language_model(tmp_path, HIDDEN, epochs=8)


def test_the_command_writes_what_the_metric_allows_and_nothing_else(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "float16.onnx"
    arguments = ["export", str(trained), "--output", str(output), "--weights", "float16"]
    assert main(arguments) == 0
    assert ", float32 " in capsys.readouterr().out
    rounded, loaded = rebuild(onnx.load(output)), checkpoint.load(trained)
    computed = with_half_arithmetic(rounded.model)
    scores = job.evaluate(loaded.config, computed, loaded.data).metrics
    assert rounded.spec.metrics["perplexity"] == pytest.approx(scores["perplexity"])
    assert main(["export", "--check", str(output)]) == 0
    output.unlink()

    def spoilt(model: nn.Module) -> nn.Module:
        computed = with_half_arithmetic(model)
        with torch.no_grad():
            computed.get_parameter("recurrent.weight_hh_l0").mul_(-3.0)
        return computed

    monkeypatch.setattr("tidegate.train.export.exporter.with_half_arithmetic", spoilt)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "weights='float16' takes validation_perplexity from" in error
    assert "tolerance=0.01 allows; nothing was written" in error
    assert not output.exists()


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_passes_the_gate_of_float16(kind: str, files: Files) -> None:
    assert check_file(files.path(kind), provider="cuda").parity.cases > 0


def test_the_limit_of_float16_is_in_units_of_what_the_network_gives(tmp_path: Path) -> None:
    spec = export_onnx(forecaster(1e9), tmp_path / "m.onnx", weights="float16")
    reference = np.zeros((5, 12, 2, 3))
    limit = limits.limit_of(spec, "quantiles", reference, limits.HALF)
    scale = forecaster(1e9).target_scale.numpy()
    np.testing.assert_allclose(limit.ravel(), limits.HALF * scale, rtol=1e-5)
    exact = limits.limit_of(spec, "x_previous_next", reference, limits.HALF)
    np.testing.assert_array_equal(exact, limits.ABSOLUTE)
