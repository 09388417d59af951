"""What `make up` starts: the services it names and how many of them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("profiles", "arguments", "scale", "others"),
    [
        ("", [], "serve=1", set()),
        ("", ["REPLICAS=3"], "serve=3", set()),
        ("gpu", [], "serve-gpu=1", set()),
        ("dashboard", ["REPLICAS=2"], "serve=2", {"grafana"}),
        ("gpu,dashboard", [], "serve-gpu=1", {"grafana"}),
    ],
)
def test_up_writes_secrets_and_certificates_and_then_starts_what_is_asked_for(
    profiles: str, arguments: list[str], scale: str, others: set[str]
) -> None:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "REPLICAS")
    }
    command = ["make", "--no-print-directory", "--dry-run", "up", *arguments]
    made = subprocess.run(
        command,
        cwd=ROOT,
        env=inherited | {"COMPOSE_PROFILES": profiles},
        capture_output=True,
        text=True,
        check=True,
    )
    *before, start = made.stdout.splitlines()
    assert before == ["deploy/secrets.sh", "deploy/certs.sh"]
    options, _, services = start.partition(scale)
    assert options == "docker compose up --build --detach --wait --scale "
    server = scale.partition("=")[0]
    always = {"postgres", "redis", "mlflow", "gateway", "prometheus"}
    assert set(services.split()) == always | others | {server}
