"""int8 weights: a smaller file, the same numbers whatever the batch, judged by the metric."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from support.large_models import HIDDEN, MODELS, network
from support.models import Session
from support.trained import trained_language_model
from tidegate.serve.inspection import describe
from tidegate.serve.model import load_model
from tidegate.serve.settings import Settings
from tidegate.train import ParityError, Recurrent, checkpoint, export_onnx, job
from tidegate.train.__main__ import main
from tidegate.train.export import check_file
from tidegate.train.export.quantization import LEVELS, quantize_weights
from tidegate.train.export.rebuild import rebuild


@pytest.mark.parametrize("kind", MODELS)
def test_a_file_of_int8_weights_passes_every_gate_and_is_much_smaller(
    kind: str, tmp_path: Path
) -> None:
    model = MODELS[kind].eval()
    export_onnx(model, tmp_path / "float32.onnx")
    spec = export_onnx(model, tmp_path / "int8.onnx", weights="int8")
    sizes = [(tmp_path / f"{name}.onnx").stat().st_size for name in ("int8", "float32")]
    assert sizes[0] < 0.4 * sizes[1]
    assert spec.weights == "int8"
    assert dict(describe(spec))["weights"] == "int8"
    assert check_file(tmp_path / "int8.onnx").parity.cases > 0
    with pytest.raises((ParityError, ValueError), match="differs between PyTorch and ONNX"):
        check_file(tmp_path / "int8.onnx", model)
    loaded = load_model("m", "1", tmp_path / "int8.onnx", Settings(provider="cpu"))
    assert loaded.spec.weights == "int8"


def test_every_weight_is_within_half_a_level_of_its_own(tmp_path: Path) -> None:
    model = MODELS["lstm"]
    export_onnx(model, tmp_path / "m.onnx", weights="int8")
    rounded = rebuild(onnx.load(tmp_path / "m.onnx")).model
    for name, weight in model.named_parameters():
        other = rounded.get_parameter(name)
        if name.startswith("bias"):
            assert torch.equal(other, weight)
            continue
        half = weight.abs().amax(dim=1, keepdim=True) / LEVELS / 2
        assert ((other - weight).abs() <= half * (1 + 1e-4)).all()
        assert not torch.equal(other, weight)


def test_a_row_of_zeros_stays_zero(tmp_path: Path) -> None:
    model = network("gru")
    with torch.no_grad():
        model.get_parameter("weight_hh_l0")[3] = 0.0
    export_onnx(model, tmp_path / "m.onnx", weights="int8")
    rounded = rebuild(onnx.load(tmp_path / "m.onnx")).model
    assert not rounded.get_parameter("weight_hh_l0")[3].any()


@pytest.mark.parametrize("kind", ["lstm", "gru", "gru-zoneout"])
def test_no_row_depends_on_its_batch_and_no_step_on_where_a_series_is_cut(
    kind: str, tmp_path: Path
) -> None:
    spec = export_onnx(MODELS[kind], tmp_path / "m.onnx", weights="int8")
    session = Session(tmp_path / "m.onnx")
    x = np.random.default_rng(0).normal(size=(4, 12, 24)).astype(np.float32)
    x[1:] *= 100

    def run(rows: np.ndarray, states: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        lengths = np.full(len(rows), rows.shape[1], np.int32)
        return session.run({"x": rows, "lengths": lengths, **states})

    def zeros(batch: int) -> dict[str, np.ndarray]:
        return {one.input: np.zeros((2, batch, HIDDEN), np.float32) for one in spec.states}

    whole = run(x, zeros(4))
    alone = run(x[:1], zeros(1))
    np.testing.assert_allclose(alone["output"][0], whole["output"][0], atol=1e-6)
    first = run(x[:, :5], zeros(4))
    second = run(x[:, 5:], {one.input: first[one.output] for one in spec.states})
    joined = np.concatenate([first["output"], second["output"]], axis=1)
    np.testing.assert_allclose(joined, whole["output"], atol=1e-6)


def test_onnxruntime_makes_the_weights_when_it_loads_the_file(tmp_path: Path) -> None:
    import onnxruntime

    export_onnx(MODELS["lstm"], tmp_path / "m.onnx", weights="int8")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    onnxruntime.InferenceSession(tmp_path / "m.onnx", options, ["CPUExecutionProvider"])
    graph = onnx.load(tmp_path / "optimized.onnx").graph
    assert not {"Cast", "Mul"} & {node.op_type for node in graph.node}


def test_a_network_too_small_and_a_format_unknown_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no weight matrix has 1024 values"):
        export_onnx(Recurrent("gru", 2, 3), tmp_path / "m.onnx", weights="int8")
    with pytest.raises(ValueError, match="weights='int4' is unknown"):
        export_onnx(MODELS["gru"], tmp_path / "m.onnx", weights="int4")  # type: ignore[arg-type]  # refused
    assert list(tmp_path.iterdir()) == []


def test_a_float_file_is_as_it_was(tmp_path: Path) -> None:
    export_onnx(MODELS["gru"], tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    names = {one.name for one in model.graph.initializer}
    assert not any(name.endswith("_int8") for name in names)
    assert quantize_weights(model).graph.initializer != model.graph.initializer


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    return trained_language_model(tmp_path, HIDDEN, epochs=8)


def test_the_command_writes_what_the_metric_allows_with_both_scores(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "int8.onnx"
    assert main(["export", str(trained), "--output", str(output), "--weights", "int8"]) == 0
    printed = capsys.readouterr().out
    assert "perplexity of the test part: " in printed
    assert ", float32 " in printed
    rounded = rebuild(onnx.load(output))
    loaded = checkpoint.load(trained)
    scores = job.evaluate(loaded.config, rounded.model, loaded.data).metrics
    assert rounded.spec.metrics["perplexity"] == pytest.approx(scores["perplexity"])


def test_what_the_metric_does_not_allow_is_not_written(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Two bits are too few.
    monkeypatch.setattr("tidegate.train.export.quantization.LEVELS", 1)
    output = tmp_path / "int8.onnx"
    arguments = ["export", str(trained), "--output", str(output), "--weights", "int8"]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "takes validation_perplexity from" in error
    assert "tolerance=0.01 allows; nothing was written" in error
    assert not output.exists()
    assert main([*arguments, "--tolerance", "1.5"]) == 2
    assert "tolerance=1.5 is no share" in capsys.readouterr().err
