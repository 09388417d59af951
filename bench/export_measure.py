"""How the benchmarks of exported files measure."""

import time
from collections.abc import Callable, Mapping
from statistics import median

# One turn of a short run: so little that another process seldom falls into it.
TURN_SECONDS = 0.0005
# Of all turns of one table row; long runs get fewer rounds, but these at least.
ROW_SECONDS, LEAST_ROUNDS = 4.0, 9


def interleaved(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each run by round; all take turns, so that a load from elsewhere falls on all."""
    counts = {name: _repeats(run) for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    begin = time.perf_counter()
    for done in range(rounds):
        if done >= LEAST_ROUNDS and time.perf_counter() - begin > ROW_SECONDS:
            break
        for name, run in runs.items():
            seconds[name].append(_turn(run, counts[name]))
    return seconds


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """Of each run."""
    return {name: median(values) for name, values in seconds.items()}


def ratios(seconds: Mapping[str, list[float]], base: str) -> dict[str, float]:
    """Median over the rounds of each run over another one in the same round."""
    return {
        name: median(one / other for one, other in zip(values, seconds[base], strict=True))
        for name, values in seconds.items()
    }


def _repeats(run: Callable[[], object]) -> int:
    run()
    return max(1, round(TURN_SECONDS / min(_turn(run, 1) for _ in range(5))))


def _turn(run: Callable[[], object], repeats: int) -> float:
    begin = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - begin) / repeats
