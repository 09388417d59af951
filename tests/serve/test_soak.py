"""Streams that come and go at 70 % of what server and client can do: nothing grows or slows down.

TIDEGATE_SOAK_SECONDS sets for how long; `make soak` takes ten minutes.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from support import onnx_models
from support.metrics import Scraper, free_port
from support.server import ServerProcess
from tidegate.client import aio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS = float(os.environ.get("TIDEGATE_SOAK_SECONDS", "60"))
LOAD = 0.7
TASKS = 16
ROWS = np.random.default_rng(0).normal(size=(512, 3)).astype(np.float32)
# Streams that are left open end with their task; what they kept goes a second later.
OPTIONS = ["--idle-seconds", "1", "--max-series", "2000"]


@dataclass
class Load:
    """What some tasks do, and what they saw.

    Attributes:
        pause: Seconds between the steps of one task; 0: none.
        until: When to end.
        steps: When each step ended, and how long it took.
        streams: How many streams there were.
    """

    pause: float
    until: float
    steps: list[tuple[float, float]] = field(default_factory=list)
    streams: int = 0


async def come_and_go(client: aio.Client, keys: Iterator[int], number: int, load: Load) -> None:
    """One stream after the other, of some series, which are finished, kept or left."""
    random = np.random.default_rng(number)
    due = time.monotonic()
    while time.monotonic() < load.until:
        names = [f"{next(keys)}" for _ in range(int(random.integers(1, 9)))]
        stream = await client.stream("gru", names)
        load.streams += 1
        for row in ROWS[: int(random.integers(5, 100))]:
            due = max(due + load.pause, time.monotonic() - 10 * load.pause)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            begin = time.monotonic()
            await stream.step_many(dict.fromkeys(names, row))
            end = time.monotonic()
            load.steps.append((end, end - begin))
        await stream.close(keep=bool(random.integers(2)))


async def run(client: aio.Client, keys: Iterator[int], pause: float, seconds: float) -> Load:
    load = Load(pause, time.monotonic() + seconds)
    await asyncio.gather(*(come_and_go(client, keys, number, load) for number in range(TASKS)))
    return load


async def memory_of(process: psutil.Process, samples: list[tuple[float, int]]) -> None:
    while True:
        samples.append((time.monotonic(), process.memory_info().rss))
        await asyncio.sleep(0.25)


def p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[-1]


@pytest.mark.slow
@pytest.mark.timeout(int(SECONDS * 2 + 120))
async def test_streams_that_come_and_go_leave_memory_slots_and_latency_as_they_were(
    tmp_path: Path,
) -> None:
    onnx_models.save(onnx_models.forecaster("gru", hidden=64), tmp_path, "gru")
    port = free_port()
    with ServerProcess(tmp_path, *OPTIONS, "--metrics-port", f"{port}") as server:
        process = psutil.Process(server.process.pid)
        async with aio.Client(server.target) as client:
            keys = itertools.count()
            fastest = await run(client, keys, 0, max(3.0, SECONDS / 30))
            rate = len(fastest.steps) / max(3.0, SECONDS / 30)
            samples: list[tuple[float, int]] = []
            watching = asyncio.create_task(memory_of(process, samples))
            begin = time.monotonic()
            load = await run(client, keys, TASKS / (LOAD * rate), SECONDS)
            watching.cancel()
            metrics = Scraper(port)
            # What is kept is dropped when its second is over.
            while await asyncio.to_thread(metrics.value, "series", model="gru", version="1"):
                pass
            assert await asyncio.to_thread(metrics.value, "streams") == 0
        # Every slot can be had again.
        everything = [f"all-{number}" for number in range(2_000)]
        async with (
            aio.Client(server.target) as client,
            await client.stream("gru", everything) as stream,
        ):
            assert len(stream.series) == len(everything)
        assert '"level": "error"' not in server.end()
    fifth = (samples[-1][0] - begin) / 5
    early = [rss for at, rss in samples if fifth <= at - begin < 2 * fifth]
    late = [rss for at, rss in samples if at - begin >= 4 * fifth]
    grown = statistics.median(late) / statistics.median(early) - 1
    half = begin + SECONDS / 2
    first, second = (
        p99([took for at, took in load.steps if (at < half) == is_first])
        for is_first in (True, False)
    )
    print(
        f"\n{SECONDS:g} s, {load.streams} streams, {len(load.steps)} messages at {LOAD:.0%} of "
        f"{rate:.0f}/s: memory {grown:+.2%} (of {statistics.median(early) / 2**20:.0f} MiB), "
        f"p99 {1e3 * first:.1f} ms, then {1e3 * second:.1f} ms"
    )
    assert grown < 0.03
    # Far above what a shared machine adds by itself, far below what a leak does.
    assert second < 2 * first + 0.01
