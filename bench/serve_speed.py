"""How fast the server is, beside what it cannot beat: `make bench-serve`.

The server has the first core, the client the second. Each round measures
everything once, one after the other, so that a load from elsewhere falls on all;
the table shows medians of the rounds, and ratios within a round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import psutil

from tidegate.serve.grpc_experiments import EXPERIMENTS

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
SERVER_CORE, CLIENT_CORE = 0, 1
# Streams, and series in each message of a stream.
CASES = ((1, 1), (32, 1), (256, 1), (1, 1_000))
PACKAGES = ("grpcio", "protobuf", "onnxruntime-gpu", "numpy")


@dataclass
class Served:
    """A server under test, in one process or with workers."""

    process: psutil.Process
    target: str

    def measure(
        self,
        streams: int,
        series: int,
        seconds: float,
        connections: int = 1,
        core: int | None = CLIENT_CORE,
    ) -> dict[str, float]:
        """One run of the load, with the CPU time of the server for each message."""
        before = self._cpu_seconds()
        numbers = (streams, series, seconds, connections)
        result = run_script("serve_load.py", self.target, *map(str, numbers), core=core)
        # The warm-up costs the server too, at the same rate.
        share = result["seconds"] / (result["seconds"] + 0.5)
        used = (self._cpu_seconds() - before) * share
        return {**result, "cpu_us": 1e6 * used / result["messages"]}

    def _cpu_seconds(self) -> float:
        processes = (self.process, *self.process.children())
        return sum(sum(one.cpu_times()[:2]) for one in processes)


@dataclass
class Results:
    """What the rounds measured for one case; `plain` is ours with gRPC's own defaults."""

    ours: list[dict[str, float]] = field(default_factory=list)
    echo: list[dict[str, float]] = field(default_factory=list)
    bare: list[dict[str, float]] = field(default_factory=list)
    plain: list[dict[str, float]] = field(default_factory=list)


def main() -> int:
    """Measures and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--server-option", action="append", default=[], help="for tidegate-serve")
    options = parser.parse_args()
    results = {case: Results() for case in CASES}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, str(HERE / "serve_model.py"), folder], check=True)
        models = Path(folder) / "models"
        command = ["-m", "tidegate.serve", "--models", str(models), "--port", "0"]
        command += ["--provider", "cpu", *options.server_option]
        with (
            served(*command) as ours,
            served(str(HERE / "serve_echo.py")) as echo,
            served(*command, GRPC_EXPERIMENTS="") as plain,
        ):
            for number in range(options.rounds):
                note(f"round {number + 1} of {options.rounds}, load {os.getloadavg()[0]:.1f}")
                for (streams, series), result in results.items():
                    file = str(models / "gru" / "1" / "model.onnx")
                    bare = (file, str(streams * series), str(options.seconds / 2))
                    result.ours.append(ours.measure(streams, series, options.seconds))
                    result.echo.append(echo.measure(streams, series, options.seconds))
                    result.bare.append(run_script("serve_bare.py", *bare, core=SERVER_CORE))
                    if series == 1:
                        result.plain.append(plain.measure(streams, series, options.seconds))
    print(header(options.rounds, options.seconds))
    for (streams, series), result in results.items():
        print(line(streams, series, result))
    gains = [
        f"{median(rate(a) / rate(b) for a, b in zip(one.ours, one.plain, strict=True)):.2f}"
        for one in results.values()
        if one.plain
    ]
    print(f"\nThe switches of `grpc_experiments.py` make {', '.join(gains)} times the messages.")
    return 0


def header(rounds: int, seconds: float) -> str:
    """When, where and with what."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    columns = (
        "streams", "series a message", "rows/s", "p50 ms", "p99 ms",
        "echo, rows/s", "of echo (spread)", "bare, rows/s", "of bare (spread)",
        "CPU us a message: ours", "echo", "bare",
    )  # fmt: skip
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores of {cpu()}, Python "
        f"{platform.python_version()}, {packages}; load averages {load}; "
        f"{rounds} rounds of {seconds:g} s\n\n"
        f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"
    )


def line(streams: int, series: int, result: Results) -> str:
    """One row of the table."""
    of_echo = [rate(a) / rate(b) for a, b in zip(result.ours, result.echo, strict=True)]
    of_bare = [rate(a) / rate(b) for a, b in zip(result.ours, result.bare, strict=True)]
    # A batch of bare ONNX Runtime has the rows of a message of each stream.
    bare_cpu = [one["cpu_us"] / streams for one in result.bare]
    cells = [
        str(streams),
        f"{series:,}",
        f"{median(map(rate, result.ours)):,.0f}",
        *(f"{median(one[key] for one in result.ours):.2f}" for key in ("p50_ms", "p99_ms")),
        f"{median(map(rate, result.echo)):,.0f}",
        f"{median(of_echo):.2f} ({min(of_echo):.2f}-{max(of_echo):.2f})",
        f"{median(map(rate, result.bare)):,.0f}",
        f"{median(of_bare):.2f} ({min(of_bare):.2f}-{max(of_bare):.2f})",
        f"{median(one['cpu_us'] for one in result.ours):,.0f}",
        f"{median(one['cpu_us'] for one in result.echo):,.0f}",
        f"{median(bare_cpu):,.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def rate(result: dict[str, float]) -> float:
    """Rows in a second."""
    return result["rows"] / result["seconds"]


def run_script(name: str, *arguments: str, core: int | None) -> dict[str, float]:
    """Runs one of the scripts beside this one on a core; returns the JSON it prints."""
    with on_core(core):
        done = subprocess.run(
            [sys.executable, str(HERE / name), *arguments],
            check=True,
            stdout=subprocess.PIPE,
            env=environment(),
        )
    result: dict[str, float] = json.loads(done.stdout)
    return result


@contextmanager
def served(*command: str, core: int | None = SERVER_CORE, **variables: str) -> Iterator[Served]:
    """Starts a server that says "listening on TARGET", on its core."""
    with started(sys.executable, *command, core=core, **variables) as process:
        assert process.stdout is not None
        target = process.stdout.readline().split()[-1]
        yield Served(psutil.Process(process.pid), target)


@contextmanager
def started(*command: str, core: int | None, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A process that ends with the block."""
    with on_core(core):
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment() | variables,
        )
    with process:
        try:
            yield process
        finally:
            process.terminate()


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """What is started within runs on one core, where there is one and the system can say so."""
    if core is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def environment() -> dict[str, str]:
    """For the processes: single-threaded, on the gRPC that tidegate-serve runs on."""
    return {"GRPC_EXPERIMENTS": EXPERIMENTS, **os.environ, "OMP_NUM_THREADS": "1"}


def cpu() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(": ")[1] for line in lines if "model name" in line), "an unknown CPU")


def note(text: str) -> None:
    """Progress, beside the table."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
