"""Time of a training pass with each regularizer over that of torch's own networks with none.

``make bench-train`` prints the tables of ``docs/benchmarks.md``. Each figure is
the median of several rounds in one process; within a round all variants take
turns, so that the machine's moods reach all of them. On one thread it is the
thread's processor time, which other work disturbs less; on more, the clock's.

Dimensions: T time, B batch, I input size, H hidden.
"""

import argparse
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from tidegate.train import (
    Recurrent,
    RNNDrop,
    Semeniuta,
    Variational,
    WeightDrop,
    Zaremba,
    Zoneout,
)
from tidegate.train.cells import State
from tidegate.train.regularizers import Regularizer
from tidegate.train.unroll import find_cell, unroll


class Shape(NamedTuple):
    """T, B, I and H."""

    time: int
    batch: int
    input_size: int
    hidden_size: int


SHAPES = tuple(
    Shape(*sizes)
    for sizes in (
        (35, 20, 200, 200),
        (35, 20, 650, 650),
        (64, 32, 64, 128),
        (100, 64, 8, 64),
        (100, 32, 256, 256),
        (512, 16, 32, 96),
    )
)
METHODS: tuple[Regularizer, ...] = (
    Zaremba(0.5),
    RNNDrop(0.5),
    Variational(0.5),
    WeightDrop(0.5),
    Semeniuta(0.5),
    Zoneout(0.5, 0.05),
)
TORCH: dict[str, Callable[[int, int], nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU}
Run = Callable[[], object]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M}, {processor()}, {os.cpu_count()} cores,")
    print(f"Python {platform.python_version()}, torch {torch.__version__}; {load()}")
    # First, while this process is small.
    report_memory()
    for threads in options.threads:
        torch.set_num_threads(threads)
        for cell in TORCH:
            report_training(cell, threads, options.rounds)
        report_others(threads, options.rounds)
    print(f"\nafterwards: {load()}")


def report_training(cell: str, threads: int, rounds: int) -> None:
    """One row for each shape, one column for each method."""
    print(f"\nTraining, {cell}, {threads} thread(s): time over torch's network without dropout\n")
    print("| T, B, I, H | torch, ms |", " | ".join(one.name for one in METHODS), "|")
    print("|---|" + "---|" * (1 + len(METHODS)))
    ratios: list[float] = []
    for shape in SHAPES:
        networks: list[nn.Module] = [TORCH[cell](shape.input_size, shape.hidden_size)]
        networks += [network(cell, shape, method) for method in METHODS]
        base, *times = measure([training_pass(one, shape) for one in networks], rounds)
        row = [value / base for value in times]
        ratios += row
        print(f"| {sizes(shape)} | {base * 1e3:.1f} |", " | ".join(f"{r:.2f}" for r in row), "|")
    mean, worst = statistics.geometric_mean(ratios), max(ratios)
    slow = sum(ratio > 1.05 for ratio in ratios)
    print(f"\nGeometric mean {mean:.2f}, largest {worst:.2f}, {slow} of {len(ratios)} above 1.05.")


def report_others(threads: int, rounds: int) -> None:
    """The loop over cells, and evaluation."""
    print(f"\n{threads} thread(s): the readable loop over the kernel, zoneout, training; and")
    print("evaluation over torch's, of a network with weight drop\n")
    print("| T, B, I, H | loop, lstm | loop, gru | evaluation, lstm | evaluation, gru |")
    print("|---|---|---|---|---|")
    for shape in SHAPES:
        row: list[float] = []
        for cell in TORCH:
            model = network(cell, shape, Zoneout(0.5, 0.05))
            native, readable = measure(
                [training_pass(model, shape), readable_pass(model, shape)], max(3, rounds // 3)
            )
            row.append(readable / native)
        for cell, module in TORCH.items():
            plain = module(shape.input_size, shape.hidden_size).eval()
            ours = network(cell, shape, WeightDrop(0.5)).eval()
            theirs, mine = measure([evaluation(one, shape) for one in (plain, ours)], rounds)
            row.append(mine / theirs)
        print(f"| {sizes(shape)} |", " | ".join(f"{value:.2f}" for value in row), "|")


def report_memory() -> None:
    """Peak memory of a training pass, each in a process of its own."""
    torch.set_num_threads(1)
    print("\nPeak memory of a training pass, MiB above that before it\n")
    print("| T, B, I, H | torch lstm | lstm, zoneout | torch gru | gru, zoneout |")
    print("|---|---|---|---|---|")
    for shape in SHAPES:
        figures = [peak(cell, shape, native=native) for cell in TORCH for native in (False, True)]
        print(f"| {sizes(shape)} |", " | ".join(f"{value:.1f}" for value in figures), "|")


def peak(cell: str, shape: Shape, *, native: bool) -> float:
    """MiB that a training pass adds to what its process had."""
    context = multiprocessing.get_context("fork")
    parent, child = context.Pipe()
    process = context.Process(target=_peak, args=(child, cell, shape, native))
    process.start()
    value = float(parent.recv())
    process.join()
    return value


def _peak(connection: Connection, cell: str, shape: Shape, native: bool) -> None:
    small = Shape(2, 2, shape.input_size, shape.hidden_size)
    if native:
        model: nn.Module = network(cell, shape, Zoneout(0.5, 0.05))
    else:
        model = TORCH[cell](shape.input_size, shape.hidden_size)
    training_pass(model, small)()
    run = training_pass(model, shape)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    connection.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def network(cell: str, shape: Shape, method: Regularizer) -> Recurrent:
    """Ours, in training mode, time-major as torch's is."""
    return Recurrent(
        cell,  # type: ignore[arg-type] # a key of TORCH
        shape.input_size,
        shape.hidden_size,
        regularizers=[method],
        batch_first=False,
    )


def training_pass(model: nn.Module, shape: Shape) -> Run:
    """Forward and backward, with the gradient of x too."""
    x = torch.randn(shape.time, shape.batch, shape.input_size, requires_grad=True)
    ones = torch.ones(shape.time, shape.batch, shape.hidden_size)

    def run() -> None:
        output, _ = model(x)
        output.backward(ones)
        model.zero_grad()
        x.grad = None

    return run


def readable_pass(model: Recurrent, shape: Shape) -> Run:
    """The same through the plain loop over the cell's step."""
    x = torch.randn(shape.time, shape.batch, shape.input_size, requires_grad=True)
    ones = torch.ones(shape.time, shape.batch, shape.hidden_size)
    cell = find_cell(model.cell, reset_after=True)

    def run() -> None:
        masks = model.sample_masks(shape.batch, shape.time).layers[0][0]
        zeros = x.new_zeros(shape.batch, shape.hidden_size)
        state = State(zeros, zeros if cell.has_memory_cell else None)
        output, _ = unroll(cell, x, None, state, model.weights(0, 0), masks, reverse=False)
        output.backward(ones)  # type: ignore[no-untyped-call] # torch's own
        model.zero_grad()
        x.grad = None

    return run


def evaluation(model: nn.Module, shape: Shape) -> Run:
    """Forward without gradients."""
    x = torch.randn(shape.time, shape.batch, shape.input_size)

    def run() -> None:
        with torch.no_grad():
            model(x)

    return run


def measure(runs: Sequence[Run], rounds: int) -> list[float]:
    """Median seconds of each, in turns."""
    for run in runs:
        run()
    now = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, measured in zip(runs, seconds, strict=True):
            begin = now()
            run()
            measured.append(now() - begin)
    return [statistics.median(one) for one in seconds]


def sizes(shape: Shape) -> str:
    """As the tables have it."""
    return ", ".join(map(str, shape))


def load() -> str:
    """How busy the machine is."""
    return "load average " + ", ".join(f"{value:.1f}" for value in os.getloadavg())


def processor() -> str:
    """Its model."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


if __name__ == "__main__":
    main()
