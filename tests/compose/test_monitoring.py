"""Metrics and alerts of the deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.compose import eventually

if TYPE_CHECKING:
    from support.compose import Deployment


def test_prometheus_scrapes_the_server_and_tells_when_it_is_gone(deployment: Deployment) -> None:
    def is_up() -> bool:
        found = deployment.prometheus("query", query="up")["result"]
        return [one["value"][1] for one in found] == ["1"]

    def alerts() -> set[str]:
        found = deployment.prometheus("alerts")["alerts"]
        return {one["labels"]["alertname"] for one in found if one["state"] == "firing"}

    eventually(30, is_up)
    loaded = deployment.prometheus("query", query="tidegate_model_info")["result"]
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
