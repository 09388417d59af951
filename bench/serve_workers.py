"""What a second worker process gives: `make bench-serve-workers`, with a redis-server on the path.

One process and two workers, each with states in Redis, answer the same streams
over several connections, in turns. All share the machine's cores with the client
and with Redis, so what a worker gains needs a core of its own to show.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from serve_speed import HERE, Served, cpu, note, rate, served, started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

STREAMS, CONNECTIONS = 256, 16
WORKERS = (1, 2)


def main() -> int:
    """Measures and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    options = parser.parse_args()
    results: dict[int, list[dict[str, float]]] = {count: [] for count in WORKERS}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        subprocess.run([sys.executable, str(HERE / "serve_model.py"), str(folder)], check=True)
        (folder / "checkpoint.key").write_bytes(os.urandom(32))
        store = stack.enter_context(redis(folder))
        servers = {
            # A database each: they are not replicas of each other.
            count: stack.enter_context(served_by(count, folder, f"{store}/{count}"))
            for count in WORKERS
        }
        for number in range(options.rounds):
            note(f"round {number + 1} of {options.rounds}, load {os.getloadavg()[0]:.1f}")
            for count, server in servers.items():
                result = server.measure(STREAMS, 1, options.seconds, CONNECTIONS, core=None)
                results[count].append(result)
    print(f"{os.cpu_count()} cores of {cpu()}; {STREAMS} streams over {CONNECTIONS} connections\n")
    print("| workers | rows/s | of one (spread) | p50 ms | p99 ms | CPU us a message |")
    print("|" + "---|" * 6)
    for count, own in results.items():
        gains = [rate(a) / rate(b) for a, b in zip(own, results[1], strict=True)]
        p50, p99, used = (median(one[key] for one in own) for key in ("p50_ms", "p99_ms", "cpu_us"))
        gain = f"{median(gains):.2f} ({min(gains):.2f}-{max(gains):.2f})"
        speed = f"{median(map(rate, own)):,.0f}"
        print(f"| {count} | {speed} | {gain} | {p50:.1f} | {p99:.1f} | {used:.0f} |")
    return 0


def served_by(workers: int, folder: Path, store: str) -> AbstractContextManager[Served]:
    """A server with so many workers, on all cores."""
    command = ["-m", "tidegate.serve", "--models", str(folder / "models"), "--port", "0"]
    command += ["--provider", "cpu", "--workers", str(workers), "--state-store", store]
    command += ["--checkpoint-key-file", str(folder / "checkpoint.key")]
    return served(*command, core=None)


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Starts a Redis that keeps nothing on disk; yields its address."""
    command = shutil.which("redis-server")
    if command is None:
        raise SystemExit("redis-server is not installed: apt-get install redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with started(command, *options, core=None):
        yield f"redis://127.0.0.1:{port}"


if __name__ == "__main__":
    sys.exit(main())
