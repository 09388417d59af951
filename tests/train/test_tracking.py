"""Runs, metrics and models in a real MLflow store."""

import hashlib
import subprocess
import sys
import threading
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from mlflow.entities.model_registry import ModelVersion
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from support.models import small_forecaster
from tidegate.train import export_onnx, tracking
from tidegate.train.tracking import Score, compare
from tidegate.train.tracking.registry import to_tags

SCORE = Score("validation_loss", 0.5, higher_is_better=False, data_digest="abc")


def version(score: Score | None) -> ModelVersion:
    tags = {} if score is None else to_tags(score)
    made = ModelVersion("tides", "3", creation_timestamp=0)
    made._tags = tags
    return made


# The champion


def test_the_first_version_becomes_champion() -> None:
    assert compare(SCORE, None) == (True, "the first version")


@pytest.mark.parametrize(
    ("value", "higher_is_better", "moves"),
    [(0.4, False, True), (0.6, False, False), (0.5, False, False), (0.6, True, True)],
)
def test_the_champion_changes_only_for_a_better_score(
    value: float, higher_is_better: bool, moves: bool
) -> None:
    new, old = (SCORE._replace(value=v, higher_is_better=higher_is_better) for v in (value, 0.5))
    is_champion, reason = compare(new, version(old))
    assert is_champion == moves
    word = "better" if moves else "no better"
    assert reason == f"{word}: validation_loss {value} against 0.5 of 3"


@pytest.mark.parametrize("old", [SCORE._replace(data_digest="other"), None])
def test_a_score_on_other_data_never_moves_the_champion(old: Score | None) -> None:
    is_champion, reason = compare(SCORE._replace(value=0.0), version(old))
    assert not is_champion
    assert "compare the two and move the alias by hand" in reason


# Runs


def test_everything_of_a_run_is_in_the_store(store_uri: str, tmp_path: Path) -> None:
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([1, 2])
    with tracking.start_run(store_uri, "tests", "tides", {"task": "forecasting"}) as run:
        run.log_config({"training": {"epochs": 2}}, {"training.epochs": "2"})
        run.log_dataset("co2", "f" * 64, "a mountain", "training")
        run.log_metrics({"train_loss": 1.0, "validation_loss": 2.0}, 1)
        run.log_metrics({"train_loss": 0.5, "validation_loss": 1.5}, 2)
        run.log_picture("forecast", figure, 1)
        run.log_figure(figure, "forecast.png")
        run.log_table(pd.DataFrame({"step": [1]}), "by_horizon.json")
    client = mlflow.MlflowClient(store_uri)
    found = client.get_run(run.id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"training.epochs": "2"}
    history = client.get_metric_history(run.id, "validation_loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 2.0), (2, 1.5)]
    assert found.data.tags["data_digest"] == "f" * 64
    assert found.inputs is not None
    assert found.inputs.dataset_inputs[0].dataset.name == "co2"
    files = {file.path for file in client.list_artifacts(run.id)}
    assert files == {"config.json", "forecast.png", "by_horizon.json", "images"}
    assert (tmp_path / "mlartifacts" / run.id).is_dir()


def test_a_run_has_the_system_metrics_of_its_machine(
    store_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.01")
    client = mlflow.MlflowClient(store_uri)
    sampled = threading.Event()
    publish = SystemMetricsMonitor.publish_metrics

    def publish_and_tell(monitor: SystemMetricsMonitor, metrics: dict[str, float]) -> None:
        publish(monitor, metrics)  # type: ignore[no-untyped-call] # MLflow's own
        sampled.set()

    monkeypatch.setattr(SystemMetricsMonitor, "publish_metrics", publish_and_tell)
    with tracking.start_run(store_uri, "tests", "tides", {}, system_metrics=True) as run:
        assert sampled.wait(60)
    names = client.get_run(run.id).data.metrics.keys()
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= names


def test_a_run_that_raises_ends_as_failed(store_uri: str) -> None:
    class Interrupted(Exception):  # noqa: N818 - a test's own
        pass

    with (
        pytest.raises(Interrupted),
        tracking.start_run(store_uri, "tests", "tides", {}) as run,
    ):
        raise Interrupted
    assert mlflow.MlflowClient(store_uri).get_run(run.id).info.status == "FAILED"


def test_the_commit_of_the_working_directory_is_a_tag(
    store_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tracking.git_commit() == ""
    for command in (
        ["init", "--quiet"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--allow-empty", "-qm", "x"],
    ):
        subprocess.run(["git", *command], check=True)  # noqa: S607 - whatever git there is
    with tracking.start_run(store_uri, "tests", "tides", {}) as run:
        pass
    tags = mlflow.MlflowClient(store_uri).get_run(run.id).data.tags
    assert tags["mlflow.source.git.commit"] == tracking.git_commit() == run.git_commit
    assert len(run.git_commit) == 40


# Models


def test_a_registered_model_carries_its_signature_and_its_tags(
    store_uri: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    spec = export_onnx(small_forecaster(), path)
    with tracking.start_run(store_uri, "tests", "tides", {}) as run:
        first = run.register(path, spec, "tides", SCORE)
        second = run.register(path, spec, "tides", SCORE._replace(value=0.6))
        third = run.register(path, spec, "tides", SCORE._replace(value=0.4))
    assert [r.is_champion for r in (first, second, third)] == [True, False, True]
    client = mlflow.MlflowClient(store_uri)
    champion = client.get_model_version_by_alias("tides", "champion")
    assert str(champion.version) == third.version
    tags = client.get_model_version("tides", second.version).tags
    assert tags["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert float(tags["parity_max_abs"]) == pytest.approx(spec.parity.max_absolute_error, rel=0.01)
    assert float(tags["parity_max_rel"]) == pytest.approx(spec.parity.max_relative_error, rel=0.01)
    assert (tags["metric"], tags["metric_value"]) == ("validation_loss", "0.6")
    assert tags["champion_reason"].startswith("no better: validation_loss 0.6 against 0.5")


def test_the_downloaded_file_is_the_exported_one(store_uri: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    spec = export_onnx(small_forecaster(), path)
    with tracking.start_run(store_uri, "tests", "tides", {}) as run:
        run.register(path, spec, "tides", SCORE)
    folder = mlflow.artifacts.download_artifacts("models:/tides@champion", dst_path=str(tmp_path))
    assert (Path(folder) / "model.onnx").read_bytes() == path.read_bytes()


def test_the_signature_frees_batch_and_time_and_keeps_the_layers(tmp_path: Path) -> None:
    spec = export_onnx(small_forecaster(), tmp_path / "model.onnx")
    found = tracking.signature(spec)
    inputs = {tensor.name: (tensor.type, tensor.shape) for tensor in found.inputs}
    assert inputs["x"] == (np.dtype("float32"), (-1, -1, 3))
    assert inputs["h"] == (np.dtype("float32"), (2, -1, 8))
    assert inputs["lengths"] == (np.dtype("int32"), (-1,))
    assert {tensor.name for tensor in found.outputs} == {"quantiles", "h_next", "x_previous_next"}


@pytest.mark.slow
def test_mlflow_is_loaded_without_its_telemetry() -> None:
    code = (
        "import tidegate.train.tracking as t; from mlflow.telemetry.client import "
        "get_telemetry_client; assert get_telemetry_client() is None"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": ""})
