"""What a second worker process gives: `make bench-serve-workers`, with a redis-server on the path.

One process and two workers, each with states in Redis, answer the same streams
over several connections, in turns. All share the machine's cores with the client
and with Redis, so what a worker gains needs a core of its own to show.
"""

from __future__ import annotations

import argparse
import json
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

import psutil
from serve_speed import HERE, cpu, environment, note, rate

if TYPE_CHECKING:
    from collections.abc import Iterator

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
            count: stack.enter_context(served(folder, f"{store}/{count}", count))
            for count in WORKERS
        }
        for number in range(options.rounds):
            note(f"round {number + 1} of {options.rounds}, load {os.getloadavg()[0]:.1f}")
            for count, (process, target) in servers.items():
                results[count].append(measure(process, target, options.seconds))
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


def measure(process: psutil.Process, target: str, seconds: float) -> dict[str, float]:
    """One run of the load, with the CPU time of all processes of a server for each message."""
    before = cpu_seconds(process)
    arguments = [target, str(STREAMS), "1", str(seconds), str(CONNECTIONS)]
    done = subprocess.run(
        [sys.executable, str(HERE / "serve_load.py"), *arguments],
        check=True,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    result: dict[str, float] = json.loads(done.stdout)
    # The warm-up costs the server too, at the same rate.
    share = result["seconds"] / (result["seconds"] + 0.5)
    used = (cpu_seconds(process) - before) * share
    return {**result, "cpu_us": 1e6 * used / result["messages"]}


def cpu_seconds(process: psutil.Process) -> float:
    """Of a process and its children."""
    return sum(sum(one.cpu_times()[:2]) for one in (process, *process.children()))


@contextmanager
def served(folder: Path, store: str, workers: int) -> Iterator[tuple[psutil.Process, str]]:
    """Starts a server with workers; yields its process and its target."""
    command = [sys.executable, "-m", "tidegate.serve", "--models", str(folder / "models")]
    command += ["--port", "0", "--provider", "cpu", "--workers", str(workers)]
    command += ["--state-store", store]
    command += ["--checkpoint-key-file", str(folder / "checkpoint.key")]
    with started(command) as process:
        assert process.stdout is not None
        yield psutil.Process(process.pid), process.stdout.readline().decode().split()[-1]


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
    with started([command, *options]):
        yield f"redis://127.0.0.1:{port}"


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment()
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


if __name__ == "__main__":
    sys.exit(main())
