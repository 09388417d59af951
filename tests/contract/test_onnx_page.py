"""The program of docs/onnx.md runs as it stands, with NumPy and ONNX Runtime alone."""

import re
from pathlib import Path

import numpy as np
import pytest

from support.blocked import run_code_without
from support.models import Session, small_forecaster, zoned_forecaster
from tidegate.train import export_onnx

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "onnx.md").read_text(encoding="utf-8")
(PROGRAM,) = re.findall(r"<!-- run: stream -->\n```python\n(.*?)```", PAGE, re.DOTALL)
ALL_ELSE = ("tidegate", "torch", "onnx", "mlflow", "grpc", "google", "pandas")


def test_the_program_has_at_most_fifteen_lines() -> None:
    assert len([line for line in PROGRAM.splitlines() if line.strip()]) <= 15
    assert re.findall(r"^import (\w+)", PROGRAM, re.MULTILINE) == ["json", "numpy", "onnxruntime"]


@pytest.mark.parametrize("kind", ["differenced gru", "zoned lstm"])
def test_the_program_streams_the_forecasts_of_one_call(kind: str, tmp_path: Path) -> None:
    model = zoned_forecaster("lstm") if kind == "zoned lstm" else small_forecaster("gru")
    spec = export_onnx(model, tmp_path / "model.onnx")
    walk = np.random.default_rng(0).normal(size=(5, 3)).cumsum(axis=0)
    rows = walk + np.array([300.0, 10.0, -50.0])
    np.savetxt(tmp_path / "rows.csv", rows, delimiter=",")

    done = run_code_without(ALL_ELSE, PROGRAM, tmp_path)

    assert done.returncode == 0, done.stderr
    printed = np.array(re.findall(r"-?\d+\.\d*", done.stdout), np.float32)
    states = {
        state.input: np.full([max(1, n) for n in state.shape], state.initial_value, np.float32)
        for state in spec.states
    }
    whole = Session(tmp_path / "model.onnx").run(
        {"x": rows[None].astype(np.float32), "lengths": np.array([5], np.int32), **states}
    )
    np.testing.assert_allclose(printed, whole["quantiles"].reshape(-1), rtol=1e-5)


def test_every_file_and_test_that_the_page_names_is_there() -> None:
    links = re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", PAGE)
    tests = re.findall(r"`(tests/[\w/.]+)`", PAGE)

    assert len(links) + len(tests) >= 5
    assert [name for name in links if not (ROOT / "docs" / name).exists()] == []
    assert [name for name in tests if not (ROOT / name).exists()] == []
