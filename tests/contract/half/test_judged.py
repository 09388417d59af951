"""float16 files are judged in float16 arithmetic: by the gate, and by the task's metric."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from support.half_models import KINDS
from support.large_models import HIDDEN, MODELS, forecaster
from support.trained import trained_language_model
from tidegate.train import ParityError, checkpoint, export_onnx, job
from tidegate.train.__main__ import main
from tidegate.train.export import limits
from tidegate.train.export.half_arithmetic import with_half_arithmetic
from tidegate.train.export.rebuild import rebuild
from tidegate.train.export.spec import recurrent_of


def test_over_the_limit_of_float16_arithmetic_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HALF", 1e-4)
    with pytest.raises(ParityError, match="differs between PyTorch and PyTorch in float16 by"):
        export_onnx(MODELS["gru"], tmp_path / "m.onnx", weights="float16")
    assert list(tmp_path.iterdir()) == []


def test_the_limit_of_float16_is_in_units_of_what_the_network_gives(tmp_path: Path) -> None:
    spec = export_onnx(forecaster(1e9), tmp_path / "m.onnx", weights="float16")
    reference = np.zeros((5, 12, 2, 3))
    limit = limits.limit_of(spec, "quantiles", reference, limits.HALF)
    scale = forecaster(1e9).target_scale.numpy()
    np.testing.assert_allclose(limit.ravel(), limits.HALF * scale, rtol=1e-5)
    exact = limits.limit_of(spec, "x_previous_next", reference, limits.HALF)
    np.testing.assert_array_equal(exact, limits.ABSOLUTE)


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
