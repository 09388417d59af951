"""The demo, as a user runs it, in a folder of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = os.environ.get("TIDEGATE_DATA", "")

pytestmark = pytest.mark.slow


def quickstart(folder: Path, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "quickstart.py", *arguments],
        cwd=folder,
        env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demo_trains_serves_and_survives_a_kill(tmp_path: Path) -> None:
    output = quickstart(tmp_path)

    shown = dict(line.strip("│").split("│") for line in output.splitlines() if line.startswith("│"))
    table = {name.strip(): value.strip() for name, value in shown.items()}
    assert table["stream: killed and resumed, bit for bit equal"] == "yes"
    assert percent(table["forecast: skill against last year's week"]) > 50
    assert percent(table["forecast: skill against the last value"]) > 50
    assert 70 < percent(table["forecast: coverage of the 80 % interval"]) < 90
    two = percent(table["labels: ambiguous words, two directions"])
    one = percent(table["labels: ambiguous words, one direction"])
    # The words to the left say nothing, so one direction can only guess.
    assert two > 95 > 65 > one
    for name in ("forecast.png", "labels.png", "mlflow.db"):
        assert (tmp_path / ".tidegate" / name).exists()


@pytest.mark.skipif(not DATA, reason="TIDEGATE_DATA names no folder of data sets")
def test_the_demo_labels_a_real_treebank(tmp_path: Path) -> None:
    """One epoch of the labellers is enough to see that every real sentence passes."""
    output = quickstart(tmp_path, "--data", "ud_english_ewt", TIDEGATE_TRAINING__EPOCHS="1")

    assert "labels: accuracy over gRPC, two directions" in output


def percent(text: str) -> float:
    return float(text.removesuffix("%"))
