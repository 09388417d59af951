"""The real server, in a process of its own or in a thread of the test's."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from tidegate.serve.server import Server
from tidegate.serve.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LISTENING = "tidegate-serve listening on "


@contextmanager
def running_server(models: Path, **settings: Any) -> Iterator[str]:
    """Serves a folder from a thread; yields "HOST:PORT"."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def call(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(timeout=30)

    options: dict[str, Any] = {"models": models, "port": 0, "provider": "cpu", "drain_seconds": 0}
    options |= settings

    async def make() -> Server:
        return Server(Settings(**options))

    try:
        server = call(make())
        call(server.start())
        yield f"127.0.0.1:{server.port}"
        call(server.drain())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class ServerProcess:
    """`tidegate-serve` as a user starts it; use as a context manager.

    Attributes:
        target: "HOST:PORT" it listens on.
    """

    def __init__(self, models: Path, *options: str) -> None:
        command = [sys.executable, "-m", "tidegate.serve", "--models", str(models)]
        defaults = ["--port", "0", "--provider", "cpu"]
        # A file and no pipe, which a long log would fill.
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - see `wait`
        self.process = subprocess.Popen(
            [*command, *defaults, *options],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith(LISTENING):
            raise RuntimeError(f"no server: {line!r} {self.wait()}")
        self.target = line.removeprefix(LISTENING).strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> str:
        """Ends it as users do, and returns its log.

        Raises:
            RuntimeError: It did not exit with 0.
        """
        self.send(signal.SIGTERM)
        status, log = self.wait()
        if status:
            raise RuntimeError(f"the server exited with {status}: {log}")
        return log

    def wait(self) -> tuple[int, str]:
        """Waits for the end; returns the exit status and the log, once."""
        self.process.communicate(timeout=30)
        if self._log.closed:
            return self.process.returncode, ""
        with self._log:
            self._log.seek(0)
            return self.process.returncode, self._log.read()
