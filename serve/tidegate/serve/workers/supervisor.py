"""Starts the workers, watches them, starts them again, and ends them together."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from tidegate.serve.metrics_server import MetricsServer
from tidegate.serve.store import MEMORY
from tidegate.serve.workers.aggregate import Aggregate
from tidegate.serve.workers.port import shared_port

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable, Sequence

    from tidegate.serve.settings import Settings

_FIRST_DELAY, _LONGEST_DELAY = 0.1, 10.0
# A worker that lived so long begins with the first delay again.
_LONG_LIFE_SECONDS = 60.0
# Signs of life of a worker that are read at a time, a byte each.
_SIGNS_BYTES = 1024

logger = logging.getLogger(__name__)


class Supervisor:
    """Keeps `settings.workers` processes that share one port.

    Args:
        settings: Everything configurable.
        arguments: The command line that they came from, for the workers.
        port: The port that the workers share.
    """

    def __init__(self, settings: Settings, arguments: Sequence[str], port: int) -> None:
        self._settings = settings
        self._aggregate = Aggregate(settings.workers)
        self._ready = [asyncio.Event() for _ in range(settings.workers)]
        self._processes: set[Process] = set()
        self._stopping = asyncio.Event()
        # Of options that come twice the last counts.
        self._arguments = [*arguments, "--port", str(port)]
        if settings.metrics_port is not None:
            self._arguments += ["--metrics-port", "0", "--metrics-host", "127.0.0.1"]

    async def run(self, announce: Callable[[], None]) -> int:
        """Serves until SIGTERM or SIGINT; a second one ends all processes at once.

        Args:
            announce: Is called when all workers are ready.

        Returns:
            The exit status: 0, or that of a worker which did not start.
        """
        self._watch_signals()
        settings, metrics = self._settings, None
        if settings.metrics_port is not None:
            registry = CollectorRegistry()
            registry.register(self._aggregate)
            metrics = MetricsServer(registry, settings.metrics_host, settings.metrics_port)
        keepers = [asyncio.create_task(self._keep(index)) for index in range(settings.workers)]
        starting = asyncio.create_task(self._announce(announce))
        statuses = await asyncio.gather(*keepers)
        starting.cancel()
        if metrics is not None:
            metrics.close()
        return max(statuses)

    async def _announce(self, announce: Callable[[], None]) -> None:
        for event in self._ready:
            await event.wait()
        announce()

    async def _keep(self, index: int) -> int:
        """Keeps one worker; returns the exit status of the last one after the end."""
        delay = _FIRST_DELAY
        while True:
            begin = time.monotonic()
            status = await self._run_worker(index)
            if self._stopping.is_set():
                return _exit_status(status)
            if not self._ready[index].is_set():
                # What keeps the first one from starting keeps all.
                self._stop()
                return _exit_status(status) or 1
            if time.monotonic() - begin > _LONG_LIFE_SECONDS:
                delay = _FIRST_DELAY
            logger.error(
                "a worker ended", extra={"worker": index, "status": status, "again_in": delay}
            )
            if await self._stopped_within(delay):
                return 0
            delay = min(2 * delay, _LONGEST_DELAY)
            self._aggregate.restarts += 1

    async def _run_worker(self, index: int) -> int:
        """Starts a worker and waits for its end; returns its exit status."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tidegate.serve.workers.worker", str(theirs.fileno())),
                *self._arguments,
                pass_fds=[theirs.fileno()],
                # Ctrl-C is for the supervisor, which tells them once.
                start_new_session=True,
            )
        self._processes.add(process)
        if self._stopping.is_set():
            process.terminate()
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            if line := await reader.readline():
                logger.info("a worker is ready", extra={"worker": index, "worker_pid": process.pid})
                self._aggregate.add(process.pid, json.loads(line)["metrics_port"])
                self._ready[index].set()
                await self._watch(index, process, reader)
            return await process.wait()
        finally:
            self._aggregate.remove(process.pid)
            self._processes.discard(process)
            writer.close()

    async def _watch(self, index: int, process: Process, reader: asyncio.StreamReader) -> None:
        """Returns when a worker has closed its socket; one whose event loop hangs is killed."""
        seconds, missed = self._settings.worker_timeout_seconds, 0
        # Two halves: after a standstill of the supervisor the second one reads what came meanwhile.
        while missed < 2:
            try:
                async with asyncio.timeout(seconds / 2):
                    if not await reader.read(_SIGNS_BYTES):
                        return
                missed = 0
            except TimeoutError:
                missed += 1
        extra = {"worker": index, "worker_pid": process.pid, "seconds": seconds}
        logger.error("a worker hangs and is killed", extra=extra)
        process.kill()

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: signal.Signals) -> None:
        if not self._stopping.is_set():
            self._stop()
            return
        self._send(signal.SIGKILL)
        asyncio.get_running_loop().remove_signal_handler(number)
        os.kill(os.getpid(), number)

    def _stop(self) -> None:
        self._stopping.set()
        self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.send_signal(number)


def _exit_status(status: int) -> int:
    """What a worker's end means for the server's: one that had not begun to serve may be cut."""
    if status < 0:
        return 0 if status == -signal.SIGTERM else 1
    return status


def supervise(settings: Settings, arguments: Sequence[str], announce: Callable[[int], None]) -> int:
    """Serves with several workers until told to stop; returns the exit status.

    Args:
        settings: Everything configurable.
        arguments: The command line that they came from.
        announce: Gets the port when all workers are ready.

    Raises:
        OSError: A port cannot be bound.
    """
    if settings.state_store == MEMORY:
        logger.warning(
            "several workers without --state-store redis://...: StreamForecast is refused, "
            "because its states and their owners would be known to one worker only"
        )
    with shared_port(settings.host, settings.port) as port:

        async def run() -> int:
            return await Supervisor(settings, arguments, port).run(lambda: announce(port))

        return asyncio.run(run())
