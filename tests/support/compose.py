"""The deployment of docker-compose.yml on a real engine, as a project of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SERVICES = ("postgres", "mlflow", "serve")


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
        self.serve_port, self.mlflow_port = free_port(), free_port()
        ports = {"SERVE_PORT": str(self.serve_port), "MLFLOW_PORT": str(self.mlflow_port)}
        self._environment = os.environ | ports

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.serve_port}"

    @property
    def mlflow_uri(self) -> str:
        return f"http://127.0.0.1:{self.mlflow_port}"

    def compose(self, *arguments: str) -> str:
        return self._run("docker", "compose", "--project-name", self._name, *arguments)

    def up(self) -> None:
        # Without names `--wait` takes an ended one-shot for a failure.
        self.compose("up", "--detach", "--wait", *SERVICES)

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

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
