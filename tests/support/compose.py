"""The deployment of docker-compose.yml on a real engine, as a project of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
SERVICES = ("postgres", "mlflow", "serve", "prometheus")


def engine_answers() -> bool:
    """Whether `docker` reaches an engine."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    command = [docker, "version", "--format", "{{.Server.Version}}"]
    return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0


class Deployment:
    """A project beside any other on the engine: own name, volumes and ports."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.serve_port, self.mlflow_port, self.prometheus_port = (free_port() for _ in range(3))
        self._environment = os.environ | {
            "SERVE_PORT": str(self.serve_port),
            "MLFLOW_PORT": str(self.mlflow_port),
            "PROMETHEUS_PORT": str(self.prometheus_port),
        }

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.serve_port}"

    @property
    def mlflow_uri(self) -> str:
        return f"http://127.0.0.1:{self.mlflow_port}"

    def compose(self, *arguments: str, **environment: str) -> str:
        command = ["docker", "compose", "--project-name", self._name, *arguments]
        return self._run(*command, **environment)

    def up(self, **environment: str) -> None:
        # Without names `--wait` takes an ended one-shot for a failure.
        self.compose("up", "--detach", "--wait", *SERVICES, **environment)

    def prometheus(self, path: str) -> Any:
        """What Prometheus's HTTP API answers."""
        url = f"http://127.0.0.1:{self.prometheus_port}/api/v1/{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def inspect(self, service: str) -> dict[str, Any]:
        (container,) = self.compose("ps", "--quiet", service).split()
        (found,) = json.loads(self._run("docker", "inspect", container))
        return dict(found)

    def image_size(self, image: str) -> int:
        return int(self._run("docker", "image", "inspect", "--format", "{{.Size}}", image))

    def in_image(self, image: str, script: str) -> str:
        """What a shell script prints in a fresh container, where it may read everything."""
        command = ["docker", "run", "--rm", "--user=0", "--entrypoint=sh", image, "-c", script]
        return self._run(*command)

    def _run(self, *command: str, **environment: str) -> str:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self._environment | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()


def eventually(seconds: float, check: Callable[[], bool]) -> float:
    """Asks the outside world again and again until it says yes; returns after how long."""
    began = time.monotonic()
    while not check():
        assert time.monotonic() - began < seconds, f"still not so after {seconds} s"
        time.sleep(0.5)
    return time.monotonic() - began


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
