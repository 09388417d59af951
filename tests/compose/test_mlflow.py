"""MLflow in the deployment: training, the registry, and what outlives `make down`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlflow

from support.compose import eventually

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from support.compose import Deployment


def test_a_recipe_is_trained_and_registered_and_stays_after_down(deployment: Deployment) -> None:
    train(deployment, epochs=2)
    run_id = champion_run(deployment)
    client = mlflow.MlflowClient(deployment.mlflow_uri)
    files = {file.path for file in client.list_artifacts(run_id)}
    assert files >= {"config.json", "forecast.png", "by_horizon.json", "images"}
    assert [m.step for m in client.get_metric_history(run_id, "train_loss")] == [1, 2]

    deployment.compose("--profile", "train", "down")
    deployment.up()

    assert champion_run(deployment) == run_id


def test_the_server_follows_the_champion_of_the_registry_without_a_restart(
    deployment: Deployment,
) -> None:
    """A live stream stays on its version; new ones get the new version."""
    train(deployment, epochs=1)
    client = mlflow.MlflowClient(deployment.mlflow_uri)
    first, second = (str(one.version) for one in sorted_versions(client))
    client.set_registered_model_alias("co2", "champion", first)
    deployment.up(REGISTRY="models:/co2@champion")
    container = deployment.inspect("serve")["Id"]
    with deployment.client() as server, server.stream("co2", ["live"]) as live:
        assert live.model == f"co2/{first}"

        client.set_registered_model_alias("co2", "champion", second)

        def is_served() -> bool:
            served = {one.version for one in server.list_models() if "champion" in one.aliases}
            return served == {second}

        after = eventually(30, is_served)
        print(f"the new champion was served after {after:.0f} s")
        live.step("live", [370.0, 0.0, 1.0])
        with server.stream("co2", ["new"]) as new:
            assert new.model == f"co2/{second}"
    assert deployment.inspect("serve")["Id"] == container


def sorted_versions(client: mlflow.MlflowClient) -> list[ModelVersion]:
    return sorted(client.search_model_versions("name='co2'"), key=lambda one: int(one.version))


def train(deployment: Deployment, *, epochs: int) -> None:
    arguments = ("fit", "/opt/recipes/co2.toml", "--training.epochs", str(epochs))
    deployment.compose("run", "--rm", "train", *arguments)


def champion_run(deployment: Deployment) -> str:
    client = mlflow.MlflowClient(deployment.mlflow_uri)
    run_id = client.get_model_version_by_alias("co2", "champion").run_id
    assert run_id
    return run_id
