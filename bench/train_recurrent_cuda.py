"""Time of a training pass on a CUDA device with each regularizer over cuDNN's network with none.

Each figure is the median of several rounds in one process, by the device's own
clock; within a round all variants take turns. cuDNN and cuBLAS have the same
precision: full float32, or bfloat16 under autocast.

Dimensions: T time, B batch, I input size, H hidden.
"""

import argparse
import statistics
from collections.abc import Callable
from datetime import UTC, datetime

import torch
from torch import nn
from train_recurrent import METHODS, TORCH, Shape, network, sizes
from train_recurrent import SHAPES as CPU_SHAPES

SHAPES = (*CPU_SHAPES, Shape(100, 128, 512, 512))
Run = Callable[[], None]
# Passes before the first round: kernels are compiled, graphs captured.
WARM_UP = 5


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no CUDA device; `make bench-train` measures the CPU")
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M}, {torch.cuda.get_device_name()},")
    print(f"torch {torch.__version__}, CUDA {torch.version.cuda}")
    for dtype in (torch.float32, torch.bfloat16):
        for cell in TORCH:
            report(cell, dtype, options.rounds)


def report(cell: str, dtype: torch.dtype, rounds: int) -> None:
    """One row for each shape, one column for each method."""
    print(f"\n{cell}, {dtype}: time over cuDNN's network without dropout\n")
    print("| T, B, I, H |", " | ".join(one.name for one in METHODS), "|")
    print("|---|" + "---|" * len(METHODS))
    every: list[float] = []
    for shape in SHAPES:
        row = list(ratios(cell, shape, dtype, rounds).values())
        every += row
        print(f"| {sizes(shape)} |", " | ".join(f"{value:.2f}" for value in row), "|")
    slow = sum(value > 1.5 for value in every)
    mean = statistics.geometric_mean(every)
    print(f"\nGeometric mean {mean:.2f}, largest {max(every):.2f}, {slow} above 1.5.")


def ratios(cell: str, shape: Shape, dtype: torch.dtype, rounds: int) -> dict[str, float]:
    """Median time with each method over that of cuDNN, by its name."""
    was_allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        plain = TORCH[cell](shape.input_size, shape.hidden_size)
        models: list[nn.Module] = [plain, *(network(cell, shape, one) for one in METHODS)]
        base, *times = measure([training_pass(one.cuda(), shape, dtype) for one in models], rounds)
    finally:
        torch.backends.cudnn.allow_tf32 = was_allowed
    names = (one.name for one in METHODS)
    return {name: value / base for name, value in zip(names, times, strict=True)}


def training_pass(model: nn.Module, shape: Shape, dtype: torch.dtype) -> Run:
    """Forward and backward, with the gradient of x too."""
    x = torch.randn(shape.time, shape.batch, shape.input_size, device="cuda", requires_grad=True)
    ones = torch.ones(shape.time, shape.batch, shape.hidden_size, device="cuda")

    def run() -> None:
        with torch.autocast("cuda", dtype=dtype, enabled=dtype != torch.float32):
            output, _ = model(x)
        output.backward(ones.to(output.dtype))
        model.zero_grad()
        x.grad = None

    return run


def measure(runs: list[Run], rounds: int) -> list[float]:
    """Median milliseconds of each, in turns."""
    for run in runs:
        for _ in range(WARM_UP):
            run()
    milliseconds: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, measured in zip(runs, milliseconds, strict=True):
            measured.append(elapsed(run))
    return [statistics.median(one) for one in milliseconds]


def elapsed(run: Run) -> float:
    """Milliseconds from an idle device to an idle device."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call] # torch's own
    torch.cuda.synchronize()
    begin.record()
    run()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))


if __name__ == "__main__":
    main()
