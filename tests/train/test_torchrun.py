"""Whole runs that torchrun starts: two real processes, one MLflow run, Ctrl-C and --resume."""

from pathlib import Path

import mlflow
import pytest

from support.processes_recipe import (
    MANY_EPOCHS,
    MANY_OPTIONS,
    TORCHRUN,
    assert_close,
    fit,
    interrupt,
    write_recipe,
)
from tidegate.train import config, engines, job

pytestmark = pytest.mark.slow


@pytest.fixture
def recipe(tmp_path: Path, store_uri: str) -> Path:
    return write_recipe(tmp_path, store_uri)


def test_two_processes_track_one_run_with_the_weights_of_one_process(
    recipe: Path, tmp_path: Path, store_uri: str
) -> None:
    together, alone = tmp_path / "together", tmp_path / "alone"

    with fit(TORCHRUN, recipe, together) as process:
        printed, _ = process.communicate(timeout=200)

    assert process.returncode == 0, printed
    assert printed.count("nouns: epoch 3/3") == 1
    client = mlflow.MlflowClient(store_uri)
    experiment = client.get_experiment_by_name("tidegate")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.tags["processes"] == "2"
    job.run(config.load(recipe), alone)
    assert_close(together, alone, atol=1e-5)


def test_ctrl_c_stops_all_processes_and_they_resume(recipe: Path, tmp_path: Path) -> None:
    together, alone = tmp_path / "together", tmp_path / "alone"

    with fit(TORCHRUN, recipe, together, *MANY_OPTIONS) as process:
        rest = interrupt(process, together)

    assert process.returncode != 0, rest
    with fit(TORCHRUN, recipe, together, *MANY_OPTIONS, "--resume") as resumed:
        printed, _ = resumed.communicate(timeout=200)
    assert resumed.returncode == 0, printed
    job.run(config.load(recipe, MANY_EPOCHS), alone)
    assert_close(together, alone, atol=1e-3)


def test_torchrun_as_the_engine_where_it_did_not_start_the_process_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"--engine torchrun, and RANK is not in .*; use torchrun"):
        engines.find_engine("torchrun")
