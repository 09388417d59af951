"""Whole runs that Ray starts: two real workers, one MLflow run, Ctrl-C and --resume."""

import sys
from pathlib import Path

import mlflow
import pytest

from support.processes_recipe import (
    MANY_EPOCHS,
    MANY_OPTIONS,
    PYTHON,
    TORCHRUN,
    assert_close,
    fit,
    interrupt,
    trained,
    write_recipe,
)
from tidegate.train import config, job
from tidegate.train.__main__ import main

RAY = ("--engine", "ray")


@pytest.fixture
def recipe(tmp_path: Path, store_uri: str) -> Path:
    return write_recipe(tmp_path, store_uri)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_workers_of_ray_track_one_run_with_the_weights_of_two_processes_of_torchrun(
    recipe: Path, tmp_path: Path, store_uri: str
) -> None:
    with fit(PYTHON, recipe, tmp_path / "ray", *RAY) as process:
        printed, _ = process.communicate(timeout=400)

    assert process.returncode == 0, printed
    assert "registered nouns 1: champion, the first version" in printed
    client = mlflow.MlflowClient(store_uri)
    experiment = client.get_experiment_by_name("tidegate")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.data.tags["processes"]) == ("FINISHED", "2")
    assert [path.name for path in (tmp_path / "ray").iterdir()] == ["nouns"]
    with fit(TORCHRUN, recipe, tmp_path / "torchrun", "--engine", "torchrun") as process:
        printed, _ = process.communicate(timeout=400)
    assert process.returncode == 0, printed
    expected = trained(tmp_path / "torchrun")
    for name, weight in trained(tmp_path / "ray").items():
        assert weight.equal(expected[name]), name


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ctrl_c_stops_all_workers_and_they_resume(recipe: Path, tmp_path: Path) -> None:
    together, alone = tmp_path / "together", tmp_path / "alone"

    with fit(PYTHON, recipe, together, *RAY, *MANY_OPTIONS) as process:
        rest = interrupt(process, together)

    assert process.returncode == 130, rest
    with fit(PYTHON, recipe, together, *RAY, *MANY_OPTIONS, "--resume") as resumed:
        printed, _ = resumed.communicate(timeout=400)
    assert resumed.returncode == 0, printed
    job.run(config.load(recipe, MANY_EPOCHS), alone)
    assert_close(together, alone, atol=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_a_worker_refuses_is_said_in_one_line(recipe: Path, tmp_path: Path) -> None:
    with fit(PYTHON, recipe, tmp_path / "out", *RAY, "--resume") as process:
        printed, _ = process.communicate(timeout=400)

    assert process.returncode == 2, printed
    assert "tidegate-train: there is no interrupted run in" in printed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_more_workers_than_this_machine_has_processors_for_are_an_error(
    recipe: Path, tmp_path: Path
) -> None:
    with fit(PYTHON, recipe, tmp_path / "out", *RAY, "--ray.workers", "999") as process:
        printed, _ = process.communicate(timeout=400)

    assert process.returncode == 2, printed
    assert "ray.workers = 999 with 1 CPU each, and this machine has" in printed


def test_without_ray_the_error_names_the_extra(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)

    assert main(["fit", str(recipe), "--engine", "ray"]) == 2

    assert "--engine ray needs Ray; install tidegate[ray]" in capsys.readouterr().err
