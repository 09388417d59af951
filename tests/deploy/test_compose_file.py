"""What docker-compose.yml and the images' recipes promise, as they are written."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]


@pytest.mark.parametrize("folder", ["serve", "train", "deploy/mlflow"])
def test_an_image_of_ours_runs_as_its_own_user(folder: str) -> None:
    last_stage = (ROOT / folder / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    assert "\nUSER 10001\n" in last_stage


def test_only_who_becomes_another_user_keeps_capabilities() -> None:
    kept = {name: service["cap_add"] for name, service in SERVICES.items() if "cap_add" in service}
    assert kept == {
        "postgres": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"],
        "gateway": ["CHOWN", "DAC_READ_SEARCH", "SETGID", "SETUID"],
    }
    assert SERVICES["redis"]["user"] == "redis"


@pytest.mark.parametrize(
    ("network", "members"),
    [
        ("store", {"postgres", "mlflow", "train", "train-gpu"}),
        ("states", {"redis", "serve", "serve-gpu"}),
    ],
)
def test_a_database_has_a_network_without_a_way_out(network: str, members: set[str]) -> None:
    assert COMPOSE["networks"][network] == {"internal": True}
    assert {name for name, one in SERVICES.items() if network in one["networks"]} == members


def test_the_trainer_knows_no_password_but_those_it_needs() -> None:
    for name in ("train", "train-gpu"):
        *passwords, credentials = SERVICES[name]["secrets"]
        assert passwords == ["optuna_password"]
        assert credentials["source"] == "mlflow_credentials"


def test_an_alert_remembers_replicas_for_ten_minutes() -> None:
    (group,) = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    rules = {rule["alert"]: rule["expr"] for rule in group["rules"]}
    assert len(rules) == 6
    assert "[10m:5s]" in rules["TidegateReplicaLost"]
