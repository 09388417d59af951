"""The deployment, up and running: `make test-compose`. Needs a Docker engine."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import mlflow
import numpy as np
import pytest

from support.compose import ROOT, SERVICES, Deployment, engine_answers, eventually
from tidegate.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow.entities.model_registry import ModelVersion

OURS = ("tidegate-serve", "tidegate-mlflow", "tidegate-train")

pytestmark = [
    pytest.mark.compose,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not engine_answers(), reason="no Docker engine answers"),
]


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    subprocess.run([ROOT / "deploy" / "secrets.sh"], check=True)
    project = Deployment("tidegate-test")
    began = time.monotonic()
    project.compose("--profile", "train", "build")
    built = time.monotonic()
    try:
        project.up()
        print(f"built in {built - began:.0f} s, up in {time.monotonic() - built:.0f} s")
        yield project
    finally:
        project.compose("--profile", "train", "down", "--volumes", "--timeout", "5")


def test_every_service_is_healthy(deployment: Deployment) -> None:
    states = {name: deployment.inspect(name)["State"]["Health"]["Status"] for name in SERVICES}
    assert states == dict.fromkeys(SERVICES, "healthy")


def test_the_images_are_small(deployment: Deployment) -> None:
    sizes = {image: deployment.image_size(image) / 1e6 for image in OURS}
    print({image: f"{size:.0f} MB" for image, size in sizes.items()})
    assert sizes["tidegate-serve"] < 900


@pytest.mark.parametrize("image", OURS)
def test_an_image_holds_no_compiler_no_secret_and_no_tests(
    deployment: Deployment, image: str
) -> None:
    script = "command -v gcc g++ cc make git; find / -xdev -name '*_key' -path '*secrets*'; true"
    assert deployment.in_image(image, script) == ""
    found = "find / -xdev -type d -name tidegate -path '*/site-packages/*'"
    packages = deployment.in_image(image, f"{found} -exec ls {{}} +").split()
    expected = {"tidegate-serve": ["client", "serve", "v1"], "tidegate-train": ["train", "v1"]}
    assert packages == expected.get(image, [])


def test_containers_have_no_more_rights_than_they_need(deployment: Deployment) -> None:
    for name in SERVICES:
        found = deployment.inspect(name)
        host = found["HostConfig"]
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert host["SecurityOpt"] == ["no-new-privileges:true"], name
        assert host["Memory"] > 0, name
        if name in ("mlflow", "serve"):
            assert (found["Config"]["User"], host["CapAdd"]) == ("10001", None), name


def test_only_loopback_is_published_and_the_database_not_at_all(deployment: Deployment) -> None:
    bindings = {name: deployment.inspect(name)["HostConfig"]["PortBindings"] for name in SERVICES}
    assert not bindings["postgres"]
    hosts = {port["HostIp"] for ports in bindings.values() for (port,) in (ports or {}).values()}
    assert hosts == {"127.0.0.1"}


def test_a_stream_survives_the_death_of_its_server(deployment: Deployment) -> None:
    """SIGKILL in mid-stream; from its checkpoint on, the forecasts are bit for bit the same."""
    rows = np.random.default_rng(0).normal((370, 0, 0), (1, 0.7, 0.7), (20, 3))
    with Client(deployment.target) as client:
        with client.stream("co2", ["undisturbed"]) as stream:
            expected = [stream.step("undisturbed", row) for row in rows]
        stream = client.stream("co2", ["killed"])
        for row in rows[:10]:
            stream.step("killed", row)
        token = stream.checkpoint("killed")
        deployment.compose("kill", "serve")
    deployment.up()
    with Client(deployment.target) as client, client.stream("co2", {"killed": token}) as stream:
        assert stream.next_offset("killed") == 10
        resumed = [stream.step("killed", row) for row in rows[10:]]
    np.testing.assert_array_equal(resumed, expected[10:])


def test_prometheus_scrapes_the_server_and_tells_when_it_is_gone(deployment: Deployment) -> None:
    def is_up() -> bool:
        found = deployment.prometheus("query?query=up")["result"]
        return [one["value"][1] for one in found] == ["1"]

    def alerts() -> set[str]:
        found = deployment.prometheus("alerts")["alerts"]
        return {one["labels"]["alertname"] for one in found if one["state"] == "firing"}

    eventually(30, is_up)
    loaded = deployment.prometheus("query?query=tidegate_model_info")["result"]
    assert {one["metric"]["model"] for one in loaded} == {"co2", "homographs"}
    assert "TidegateNoReplica" not in alerts()

    deployment.compose("kill", "serve")
    after = eventually(60, lambda: "TidegateNoReplica" in alerts())
    print(f"the alert for a dead server fired after {after:.0f} s")

    deployment.up()
    eventually(30, is_up)
    eventually(60, lambda: "TidegateNoReplica" not in alerts())


def test_the_alert_rules_are_right(deployment: Deployment) -> None:
    said = deployment.compose(
        "exec", "prometheus", "promtool", "check", "config", "/etc/prometheus/prometheus.yml"
    )
    assert "5 rules found" in said


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
    with Client(deployment.target) as server, server.stream("co2", ["live"]) as live:
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
