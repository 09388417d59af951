"""The README's programs run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.server import running_server

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"<!-- run: (\w+) -->\n```python\n(.*?)```", README, re.DOTALL))
ADDRESS = "127.0.0.1:50051"


def run(code: str, folder: Path) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_program_of_the_readme_is_run_here() -> None:
    assert README.count("```python") == len(BLOCKS)
    assert set(BLOCKS) == {"client", "recurrent"}


def test_the_client_example_forecasts_and_labels(tmp_path: Path) -> None:
    code = BLOCKS["client"]
    assert code.count(ADDRESS) == 1

    with running_server(ROOT / "models") as target:
        output = run(code.replace(ADDRESS, target), tmp_path).splitlines()

    assert "co2/1: forecasting" in output[0]
    assert sum(line.startswith("in 26 weeks") for line in output) == 4
    assert "next observation: 4" in output
    assert output[-1] == "['VERB', 'ADV', 'ADV', 'DET', 'NOUN', 'PUNCT']"


def test_the_client_example_has_twenty_lines_of_code() -> None:
    lines = [line for line in BLOCKS["client"].splitlines() if line.strip()]

    assert len(lines) <= 20


@pytest.mark.slow
def test_the_network_example_exports(tmp_path: Path) -> None:
    output = run(BLOCKS["recurrent"], tmp_path)

    assert "largest difference between PyTorch and ONNX Runtime" in output
    assert (tmp_path / "network.onnx").exists()


def test_every_file_and_test_that_the_readme_names_is_there() -> None:
    names = re.findall(r"\]\(([\w./-]+)\)", README) + re.findall(r"`(tests/[\w/.]+)`", README)

    assert len(names) > 10
    assert [name for name in names if not (ROOT / name).exists()] == []
