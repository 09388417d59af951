"""Borders and surface: what may import what, and what is public."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tidegate.train

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "mlflow", "onnx", "pandas", "matplotlib", "tidegate.train")


def modules_after(statement: str) -> set[str]:
    """The modules that a fresh interpreter holds after a statement."""
    code = f"import sys; {statement}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "module", ["serve", "serve.__main__", "serve.server", "client", "client.__main__"]
)
def test_the_serving_side_loads_neither_torch_nor_mlflow(module: str) -> None:
    loaded = modules_after(f"import tidegate.{module}")

    assert f"tidegate.{module}" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_the_client_loads_no_onnx_runtime() -> None:
    assert "onnxruntime" not in modules_after("import tidegate.client")


def test_the_supervisor_of_workers_loads_neither_onnx_runtime_nor_grpc() -> None:
    loaded = modules_after("import tidegate.serve.__main__, tidegate.serve.workers.supervisor")

    assert loaded.isdisjoint({"onnxruntime", "grpc", "numpy"})


@pytest.mark.parametrize("module", ["tidegate.serve.session", "tidegate.train.export"])
def test_onnx_runtime_keeps_no_identity_of_the_machine(module: str, tmp_path: Path) -> None:
    """Its telemetry writes a device's number into the home folder; off, there is nothing."""
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    environment = {**os.environ, **home}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    command = [sys.executable, "-c", f"import {module}, onnxruntime"]
    subprocess.run(command, check=True, env=environment)
    assert list(tmp_path.rglob("*")) == []


def test_training_loads_no_grpc() -> None:
    assert "grpc" not in modules_after("import tidegate.train")


def test_the_commands_load_no_mlflow_before_one_needs_it() -> None:
    loaded = modules_after("import tidegate.train.__main__")

    assert "tidegate.train.commands.fit" in loaded
    assert "mlflow" not in loaded


def test_the_namespace_has_no_init_file() -> None:
    folders = [ROOT / part / "tidegate" for part in ("train", "serve", "protos")]

    assert [folder / "__init__.py" for folder in folders if (folder / "__init__.py").exists()] == []
    assert len(list(tidegate.__path__)) == 3


def test_the_public_names_of_training_are_pinned() -> None:
    assert tidegate.train.__all__ == [
        "EmbeddingDropout",
        "Forecaster",
        "Labeller",
        "LanguageModel",
        "MonteCarlo",
        "ParityError",
        "RNNDrop",
        "Recurrent",
        "Semeniuta",
        "Variational",
        "WeightDrop",
        "Zaremba",
        "Zoneout",
        "awd",
        "export_onnx",
        "from_keras",
        "from_torch",
        "monte_carlo",
    ]
