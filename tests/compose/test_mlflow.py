"""MLflow in the deployment: training, the registry, who may ask, and what outlives it."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import mlflow
import pytest

from support.compose import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow.entities.model_registry import ModelVersion

    from support.compose import Deployment

MODEL = "api/2.0/mlflow/registered-models/get?name=co2"


def test_a_recipe_is_trained_and_registered_and_stays_after_down(deployment: Deployment) -> None:
    train(deployment, epochs=2)
    run_id = champion_run(deployment)
    client = mlflow.MlflowClient(deployment.mlflow_uri)
    files = {file.path for file in client.list_artifacts(run_id)}
    assert files >= {"config.json", "forecast.png", "by_horizon.json", "images"}
    assert [m.step for m in client.get_metric_history(run_id, "train_loss")] == [1, 2]
    with deployment.client() as server:
        kept = server.stream("co2", ["kept"], take_over=True, reset=True)
        for _ in range(3):
            kept.step("kept", [370.0, 0.0, 1.0])
        kept.close(keep=True)

    deployment.make("down")
    deployment.up()

    assert champion_run(deployment) == run_id
    with deployment.client() as server, server.stream("co2", ["kept"]) as stream:
        assert stream.next_offset("kept") == 3


def test_what_is_lost_after_a_backup_is_restored(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", deployment.mlflow_uri)
    run_id = champion_run(deployment)
    model = downloaded_champion(tmp_path / "before")
    backup = deployment.make("backup").splitlines()[-1]

    client = mlflow.MlflowClient(deployment.mlflow_uri)
    for version in versions(client):
        client.delete_model_version("co2", version.version)
    client.create_registered_model("later")
    deployment.docker(
        "exec",
        deployment.containers("mlflow")[0],
        "find",
        "/artifacts",
        "-mindepth",
        "1",
        "-delete",
    )

    deployment.make("restore", f"BACKUP={backup}")

    assert champion_run(deployment) == run_id
    assert downloaded_champion(tmp_path / "after") == model
    assert {one.name for one in client.search_registered_models()} == {"co2"}


def test_every_replica_follows_the_champion_of_the_registry_without_a_restart(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A live stream stays on its version; new ones get the new one. MLflow asks for passwords."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", deployment.secret("mlflow_password"))
    deployment.up(MLFLOW_AUTHENTICATION="true")
    assert status(deployment, MODEL) == 401
    train(deployment, epochs=1, MLFLOW_AUTHENTICATION="true")
    client = mlflow.MlflowClient(deployment.mlflow_uri)
    first, second = (str(one.version) for one in versions(client))
    client.set_registered_model_alias("co2", "champion", first)
    deployment.up(replicas=2, REGISTRY="models:/co2@champion", MLFLOW_AUTHENTICATION="true")
    begun = started(deployment)
    with deployment.client() as server, server.stream("co2", ["live"]) as live:
        assert live.model == f"co2/{first}"

        client.set_registered_model_alias("co2", "champion", second)

        query = f'tidegate_model_info{{model="co2",version="{second}"}}'
        after = eventually(
            30, lambda: len(deployment.prometheus("query", query=query)["result"]) == 2
        )
        print(f"\nboth replicas served the new champion after {after:.0f} s")
        live.step("live", [370.0, 0.0, 1.0])
        with server.stream("co2", ["new"]) as new:
            assert new.model == f"co2/{second}"
    assert started(deployment) == begun
    deployment.up()


def test_workers_share_a_study_in_the_database(deployment: Deployment, tmp_path: Path) -> None:
    recipe = tmp_path / "study.toml"
    recipe.write_text(
        'name = "study"\ntask = "labelling"\n[dataset]\nname = "homographs"\nsentences = 60\n'
        "[model]\nhidden_size = 4\nembedding_size = 4\nnum_layers = 1\n"
        "[training]\nepochs = 1\n[tune]\ntrials = 1\n"
        'storage = "postgresql+psycopg2://optuna@postgres/optuna"\n'
        'storage_password_file = "/run/secrets/optuna_password"\n'
        '[tune.space]\n"training.learning_rate" = {type = "float", low = 1e-3, high = 0.1}\n'
    )
    recipe.chmod(0o444)
    volume = f"{recipe}:/study.toml:ro"
    command = ("run", "--rm", "--volume", volume, "train", "tune", "/study.toml")
    deployment.compose(*command)
    assert "study: 2 trials" in deployment.compose(*command, "--tune.trials", "2")
    client = mlflow.MlflowClient(deployment.mlflow_uri)
    experiment = client.get_experiment_by_name("tidegate")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if run.info.run_name == "study-tune")
    nested = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {run.data.tags["trial"] for run in nested} == {"0", "1"}


def test_mlflow_answers_only_under_its_own_names(deployment: Deployment) -> None:
    assert status(deployment, MODEL) == 200
    assert status(deployment, MODEL, host="elsewhere.example.org") == 403


def status(deployment: Deployment, path: str, *, host: str = "localhost:5000") -> int:
    request = urllib.request.Request(f"{deployment.mlflow_uri}/{path}", headers={"Host": host})  # noqa: S310 - http
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - http
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def started(deployment: Deployment) -> str:
    """The identity of each replica, and when it began."""
    replicas = deployment.containers("serve")
    return deployment.docker("inspect", "--format", "{{.Id}} {{.State.StartedAt}}", *replicas)


def versions(client: mlflow.MlflowClient) -> list[ModelVersion]:
    return sorted(client.search_model_versions("name='co2'"), key=lambda one: int(one.version))


def train(deployment: Deployment, *, epochs: int, **environment: str) -> None:
    arguments = ("fit", "/opt/recipes/co2.toml", "--training.epochs", str(epochs))
    deployment.compose("run", "--rm", "train", *arguments, **environment)


def champion_run(deployment: Deployment) -> str:
    client = mlflow.MlflowClient(deployment.mlflow_uri)
    run_id = client.get_model_version_by_alias("co2", "champion").run_id
    assert run_id
    return run_id


def downloaded_champion(folder: Path) -> bytes:
    """Its ONNX file, from the registry."""
    folder.mkdir()
    mlflow.artifacts.download_artifacts("models:/co2@champion", dst_path=str(folder))
    (file,) = folder.rglob("*.onnx")
    return file.read_bytes()
