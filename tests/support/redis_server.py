"""A real Redis, which tests kill, stop and start again."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from typing import TYPE_CHECKING, Self

import pytest

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(
    COMMAND is None, reason="redis-server is not installed: apt-get install redis-server"
)


class RedisServer:
    """`redis-server` on a port of its own, with nothing on disk.

    Attributes:
        url: redis://HOST:PORT/0.
    """

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._folder = folder
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Starts it, empty, and waits until it answers."""
        assert COMMAND is not None
        self._process = subprocess.Popen(
            [COMMAND, "--port", str(self._port), "--save", "", "--bind", "127.0.0.1"],
            cwd=self._folder,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if b"Ready to accept connections" in line:
                return
        raise RuntimeError("redis-server ended")

    def kill(self) -> None:
        """Ends it, if it runs; what it held is lost."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.communicate()

    def pause(self) -> None:
        """Lets it accept connections and never answer."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Ends a pause."""
        self._process.send_signal(signal.SIGCONT)
