"""A PostgreSQL server of the test's own, in a temporary folder."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# Debian keeps the programs out of the path.
_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
PASSWORD = "a secret of this test"  # noqa: S105 - of a server that ends with the test


@contextmanager
def postgres() -> Iterator[str]:
    """Runs a server and skips the test where there is none.

    Yields:
        The URL of a database, without the password.
    """
    initdb, pg_ctl = (_find(name) for name in ("initdb", "pg_ctl"))
    user = _user()
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    if user is not None:
        shutil.chown(folder, user)
    password = folder / "password"
    password.write_text(PASSWORD)
    password.chmod(0o644)
    data, port = folder / "data", _free_port()

    def run(*command: object) -> None:
        subprocess.run(
            [str(one) for one in command], check=True, user=user, cwd=folder, timeout=120
        )

    try:
        run(
            *(initdb, "--pgdata", data, "--username", "optuna", "--pwfile", password),
            *("--auth", "scram-sha-256", "--no-sync"),
        )
        options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder}"
        run(pg_ctl, "--pgdata", data, "--log", folder / "log", "-w", "-o", options, "start")
        try:
            yield f"postgresql+psycopg2://optuna@127.0.0.1:{port}/postgres"
        finally:
            run(pg_ctl, "--pgdata", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _find(name: str) -> str:
    path = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *map(str, _FOLDERS)]))
    if path is None:
        pytest.skip(f"no PostgreSQL server on this machine: {name} is not there")
    return path


def _user() -> str | None:
    """Whom the server runs as: it refuses to be root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return pwd.getpwnam("nobody").pw_name


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port
