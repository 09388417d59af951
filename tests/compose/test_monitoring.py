"""Metrics, alerts and the dashboard of the deployment."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest

from support.compose import eventually
from tidegate.client import InvalidArgumentError, NotFoundError

if TYPE_CHECKING:
    from support.compose import Deployment


def firing(deployment: Deployment) -> set[str]:
    found = deployment.prometheus("alerts")["alerts"]
    return {one["labels"]["alertname"] for one in found if one["state"] == "firing"}


def replicas_up(deployment: Deployment) -> int:
    found = deployment.prometheus("query", query='up{job="tidegate-serve"} == 1')["result"]
    return len(found)


def test_prometheus_scrapes_every_replica_and_tells_when_one_or_all_are_gone(
    deployment: Deployment,
) -> None:
    deployment.up(replicas=2)
    eventually(60, lambda: replicas_up(deployment) == 2)
    loaded = deployment.prometheus("query", query="tidegate_model_info")["result"]
    found = sorted((one["metric"]["model"], one["metric"]["instance"]) for one in loaded)
    assert len(found) == len(set(found)) == 4
    alerts = {"TidegateReplicaLost", "TidegateNoReplica"}
    eventually(60, lambda: not alerts & firing(deployment))
    known = 'max_over_time(count(up{job="tidegate-serve"} == 1)[10m:5s]) >= 2'
    eventually(30, lambda: bool(deployment.prometheus("query", query=known)["result"]))

    first, second = deployment.containers("serve")
    deployment.docker("kill", first)
    after = eventually(90, lambda: "TidegateReplicaLost" in firing(deployment))
    print(f"\nthe alert for one dead replica fired after {after:.0f} s")
    assert "TidegateNoReplica" not in firing(deployment)

    deployment.docker("kill", second)
    after = eventually(60, lambda: "TidegateNoReplica" in firing(deployment))
    print(f"the alert for no replica fired after {after:.0f} s")

    deployment.up(replicas=2)
    eventually(60, lambda: not alerts & firing(deployment))
    deployment.up()


def test_every_query_of_the_dashboard_returns_data(deployment: Deployment) -> None:
    dashboard = deployment.folder / "deploy" / "grafana" / "dashboards" / "tidegate.json"
    panels = json.loads(dashboard.read_text())["panels"]
    assert {panel["datasource"]["uid"] for panel in panels} == {"prometheus"}
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(queries) > 15

    missing = set(queries)

    def all_have_data() -> bool:
        use(deployment)
        for query in sorted(missing):
            # Grafana takes four scrapes at least.
            found = deployment.prometheus("query", query=query.replace("$__rate_interval", "20s"))
            values = [float(one["value"][1]) for one in found["result"]]
            if any(math.isfinite(value) for value in values):
                missing.discard(query)
        return not missing

    try:
        eventually(60, all_have_data)
    except AssertionError:
        pytest.fail(f"without data: {sorted(missing)}")


def use(deployment: Deployment) -> None:
    """Some of everything that is counted, errors included."""
    with deployment.client() as client:
        with client.stream("co2", ["dashboard"], take_over=True, reset=True) as stream:
            stream.step("dashboard", [370.0, 0.0, 1.0])
            with pytest.raises(InvalidArgumentError):
                stream.step("dashboard", [math.nan, 0.0, 1.0])
        with pytest.raises(NotFoundError):
            client.get_model("none")


def test_the_alert_rules_are_right(deployment: Deployment) -> None:
    said = deployment.compose(
        "exec", "prometheus", "promtool", "check", "config", "/etc/prometheus/prometheus.yml"
    )
    assert "6 rules found" in said
