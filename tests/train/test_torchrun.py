"""Whole runs that torchrun starts: two real processes, one MLflow run, Ctrl-C and --resume."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest
import torch

from support.processes_recipe import trained, write_recipe
from tidegate.train import config, engines, job

pytestmark = pytest.mark.slow


@pytest.fixture
def recipe(tmp_path: Path, store_uri: str) -> Path:
    return write_recipe(tmp_path, store_uri)


@contextmanager
def torchrun(recipe: Path, output: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "tidegate.train", "fit"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*command, str(recipe), "--output", str(output), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    ) as process:
        try:
            yield process
        finally:
            # It ends its own processes.
            process.terminate()


def test_two_processes_track_one_run_with_the_weights_of_one_process(
    recipe: Path, tmp_path: Path, store_uri: str
) -> None:
    together, alone = tmp_path / "together", tmp_path / "alone"

    with torchrun(recipe, together) as process:
        printed, _ = process.communicate(timeout=200)

    assert process.returncode == 0, printed
    assert printed.count("nouns: epoch 3/3") == 1
    client = mlflow.MlflowClient(store_uri)
    experiment = client.get_experiment_by_name("tidegate")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.tags["processes"] == "2"
    job.run(config.load(recipe), alone)
    expected = trained(alone)
    for name, weight in trained(together).items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=1e-5)


def test_ctrl_c_stops_all_processes_and_they_resume(recipe: Path, tmp_path: Path) -> None:
    together, alone = tmp_path / "together", tmp_path / "alone"
    many = ("--training.epochs", "60", "--training.patience", "60")

    with torchrun(recipe, together, *many) as process:
        assert process.stdout is not None
        while "epoch 2/60" not in next(process.stdout):
            pass
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=100)

    assert process.returncode != 0
    assert "and saved; the same command with --resume goes on from there" in rest
    state = torch.load(together / "nouns" / "training.pt", weights_only=True)["training"]
    assert state["epoch"] < 60
    with torchrun(recipe, together, *many, "--resume") as resumed:
        printed, _ = resumed.communicate(timeout=200)
    assert resumed.returncode == 0, printed
    job.run(config.load(recipe, {"training.epochs": 60, "training.patience": 60}), alone)
    expected = trained(alone)
    for name, weight in trained(together).items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=1e-3)


def test_torchrun_as_the_engine_where_it_did_not_start_the_process_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"--engine torchrun, and RANK is not in .*; use torchrun"):
        engines.find_engine("torchrun")
