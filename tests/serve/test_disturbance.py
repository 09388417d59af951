"""Clients that vanish, or do not read, disturb nobody and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from support.server import ServerProcess
from support.streams import RawStream
from tidegate.client import AlreadyExistsError, Client, ResourceExhaustedError

TESTS = Path(__file__).parents[1]
ROUNDS = 2_000

# Starts 20 streams, sends without reading, says so, and waits to be killed.
VANISHING_CLIENT = """
import sys, threading
import numpy as np
from support.streams import RawStream
streams = [RawStream(sys.argv[1]) for _ in range(20)]
for number, stream in enumerate(streams):
    (handle,) = stream.start("gru", f"dead-{number}")
    for offset in range(50):
        stream.observe(handle, offset, np.zeros((1, 3), np.float32))
print("sent", flush=True)
threading.Event().wait()
"""


def start_until_free(client: Client, key: str) -> None:
    """The server learns of a death through its socket: ask until it has."""
    deadline = time.monotonic() + 10
    while True:
        try:
            client.stream("gru", [key]).close()
        except (AlreadyExistsError, ResourceExhaustedError):
            assert time.monotonic() < deadline, f"series {key!r} is still live"
        else:
            return


def test_clients_that_die_free_their_series_and_disturb_nobody(models: Path) -> None:
    with ServerProcess(models, "--max-streams", "22") as server, Client(server.target) as client:
        rows = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
        with client.stream("gru", ["alive"]) as alive:
            alive.send("alive", rows[:4])
            command = [sys.executable, "-c", VANISHING_CLIENT, server.target]
            environment = {**os.environ, "PYTHONPATH": str(TESTS)}
            with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as dying:
                assert dying.stdout is not None
                assert dying.stdout.readline() == b"sent\n"
                dying.kill()
            alive.send("alive", rows[4:-1])
            for number in range(20):
                start_until_free(client, f"dead-{number}")
            last = alive.step("alive", rows[-1])
        np.testing.assert_array_equal(last, client.forecast("gru", [rows])[0])
        server.send(signal.SIGTERM)
        status, log = server.wait()
    assert status == 0
    assert '"level": "error"' not in log


@pytest.mark.slow
def test_a_client_that_does_not_read_is_not_read(models: Path) -> None:
    """Back-pressure: what it sends stays in its own socket, and the server's memory flat."""
    chunk = np.zeros((400, 3), np.float32)
    with ServerProcess(models) as server, RawStream(server.target) as stream:
        (handle,) = stream.start("gru", "a", every_step=True)
        before = resident_bytes(server.process.pid)
        for number in range(ROUNDS):
            stream.observe(handle, number * len(chunk), chunk)
        with Client(server.target) as client:
            for _ in range(50):
                client.forecast("gru", [chunk])
        grown = resident_bytes(server.process.pid) - before
        stream.cancel()
    # All answers would be 38 MB.
    assert grown < 20 * 2**20, f"the server grew by {grown / 2**20:.0f} MiB"


def resident_bytes(pid: int) -> int:
    psutil = pytest.importorskip("psutil")
    return int(psutil.Process(pid).memory_info().rss)
