"""The deployment of docker-compose.yml on a real engine, as a project of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.metrics import free_port
from tidegate.client import Client, Security

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
SERVICES = ("postgres", "redis", "mlflow", "serve", "gateway", "prometheus")
# What a checkout does not have.
_LEFT_OUT = (
    ".git",
    ".venv*",
    ".tidegate",
    ".*_cache",
    "__pycache__",
    "secrets",
    "certs",
    "backups",
)


def engine_answers() -> bool:
    """Whether `docker` reaches an engine."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    command = [docker, "version", "--format", "{{.Server.Version}}"]
    return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0


class Deployment:
    """A clean checkout, deployed beside any other project: own name, volumes and ports."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder / "checkout"
        shutil.copytree(ROOT, self.folder, ignore=shutil.ignore_patterns(*_LEFT_OUT))
        self.gateway_port, self.mlflow_port, self.prometheus_port = (free_port() for _ in range(3))
        self._environment = os.environ | {
            "COMPOSE_PROJECT_NAME": name,
            "GATEWAY_PORT": str(self.gateway_port),
            "MLFLOW_PORT": str(self.mlflow_port),
            "PROMETHEUS_PORT": str(self.prometheus_port),
        }

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.gateway_port}"

    @property
    def mlflow_uri(self) -> str:
        return f"http://127.0.0.1:{self.mlflow_port}"

    def secret(self, name: str) -> str:
        return (self.folder / "deploy" / "secrets" / name).read_text()

    def security(self, **other: Any) -> Security:
        certs = self.folder / "deploy" / "certs"
        mine: dict[str, Any] = {
            "ca": certs / "ca.pem",
            "certificate": certs / "client.pem",
            "key": certs / "client.key",
            "token": self.secret("client_token"),
        }
        return Security(tls=True, **(mine | other))

    def client(self, **other: Any) -> Client:
        """A client of the gateway."""
        return Client(self.target, security=self.security(), **other)

    def make(self, *arguments: str, **environment: str) -> str:
        return self.run("make", "--no-print-directory", *arguments, **environment)

    def compose(self, *arguments: str, **environment: str) -> str:
        return self.run("docker", "compose", *arguments, **environment)

    def up(self, replicas: int = 1, **environment: str) -> None:
        # Without names `--wait` takes an ended one-shot for a failure.
        scale = f"serve={replicas}"
        self.compose("up", "--detach", "--wait", "--scale", scale, *SERVICES, **environment)

    def prometheus(self, path: str, **query: str) -> Any:
        """What Prometheus's HTTP API answers."""
        url = (
            f"http://127.0.0.1:{self.prometheus_port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        )
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def containers(self, service: str) -> list[str]:
        """The running containers of a service, the one created first before the others."""
        names = self.compose("ps", "--format", "{{.Name}}", service).split()
        return sorted(names, key=lambda name: int(name.rpartition("-")[2]))

    def docker(self, *arguments: str) -> str:
        return self.run("docker", *arguments)

    def inspect(self, service: str) -> dict[str, Any]:
        (found,) = json.loads(self.docker("inspect", *self.containers(service)))
        return dict(found)

    def gateway_knows(self) -> int:
        """How many replicas the gateway sends streams to."""
        name = self.containers("gateway")[0]
        return self.docker("exec", name, "cat", "/tmp/replicas.conf").count(":50051")  # noqa: S108 - of the container

    def image_size(self, image: str) -> int:
        return int(self.docker("image", "inspect", "--format", "{{.Size}}", image))

    def in_image(self, image: str, script: str) -> str:
        """What a shell script prints in a fresh container, where it may read everything."""
        return self.docker("run", "--rm", "--user=0", "--entrypoint=sh", image, "-c", script)

    def succeeds(self, service: str, script: str) -> bool:
        """Whether a bash script ends well in a running container of a service."""
        command = ["docker", "exec", self.containers(service)[0], "bash", "-c", script]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def run(self, *command: str, **environment: str) -> str:
        """What a command prints that is run in the checkout."""
        done = subprocess.run(
            command,
            cwd=self.folder,
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
