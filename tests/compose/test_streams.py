"""Live series through the gateway while everything behind it goes and comes back."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import numpy as np

from support.compose import eventually
from tidegate.client import aio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from numpy.typing import NDArray

    from support.compose import Deployment

STREAMS, SERIES = 20, 10
# Between two observations of a series; so many at most.
SECONDS, LONGEST = 0.1, 3_000


class Load:
    """Live series, each observation of which is answered before the next one is sent.

    Attributes:
        longest: The longest wait for an answer since it was last set to 0, in seconds.
    """

    def __init__(self, deployment: Deployment, streams: int, prefix: str) -> None:
        self.longest = 0.0
        self._deployment = deployment
        self._names = [
            [f"{prefix}-{stream}-{series}" for series in range(SERIES)] for stream in range(streams)
        ]
        shape = (streams, LONGEST, SERIES, 3)
        rows = np.random.default_rng(0).normal((370, 0, 0), (1, 0.7, 0.7), shape)
        self._rows = rows.astype(np.float32)
        self._answers: list[list[NDArray[np.float32]]] = [[] for _ in range(streams)]
        self._stopping = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with aio.Client(
            self._deployment.target, security=self._deployment.security()
        ) as client:
            tasks = [
                asyncio.create_task(self._stream(client, number))
                for number in range(len(self._names))
            ]
            try:
                yield
            finally:
                self._stopping = True
                await asyncio.gather(*tasks)

    async def check(self) -> int:
        """Compares with a run that nobody disturbs; returns how many observations were answered."""
        async with aio.Client(
            self._deployment.target, security=self._deployment.security()
        ) as client:
            for names, rows, answers in zip(self._names, self._rows, self._answers, strict=True):
                count = len(answers)
                keys = [f"undisturbed-{name}" for name in names]
                async with await client.stream("co2", keys, every_step=True) as stream:
                    chunks = {key: rows[:count, number] for number, key in enumerate(keys)}
                    expected = await stream.send_many(chunks)
                found = np.array(answers).swapaxes(0, 1)
                np.testing.assert_array_equal(found, np.array([expected[key] for key in keys]))
        return sum(len(answers) for answers in self._answers) * SERIES

    async def _stream(self, client: aio.Client, number: int) -> None:
        names, answers = self._names[number], self._answers[number]
        async with await client.stream("co2", names) as stream:
            for rows in self._rows[number]:
                if self._stopping:
                    return
                began = time.monotonic()
                forecasts = await stream.step_many(dict(zip(names, rows, strict=True)))
                self.longest = max(self.longest, time.monotonic() - began)
                answers.append(np.array([forecasts[name] for name in names]))
                await asyncio.sleep(SECONDS)
                assert stream.next_offset(names[0]) == len(answers)
        raise AssertionError(f"{LONGEST} observations were not enough")


def test_nothing_is_lost_or_doubled_whatever_goes_and_comes_back(deployment: Deployment) -> None:
    deployment.up(replicas=3)
    first, second, _ = deployment.containers("serve")

    def start(replica: str) -> None:
        deployment.docker("start", replica)
        eventually(60, lambda: deployment.gateway_knows() == 3)

    disturbances: dict[str, Callable[[], object]] = {
        "nothing": lambda: time.sleep(3),
        "a replica is killed": lambda: deployment.docker("kill", first),
        "it comes back": lambda: start(first),
        "a replica is stopped": lambda: deployment.docker("stop", second),
        "it too comes back": lambda: start(second),
        "Redis is restarted": lambda: deployment.compose("restart", "redis"),
        "MLflow is stopped": lambda: deployment.compose("stop", "mlflow"),
        "PostgreSQL is stopped": lambda: deployment.compose("stop", "postgres"),
        "both come back": lambda: deployment.up(replicas=3),
        "the gateway is restarted": lambda: deployment.compose("restart", "gateway"),
    }
    load = Load(deployment, STREAMS, "disturbed")

    async def run() -> int:
        stalls = {}
        async with load.running():
            for name, disturb in disturbances.items():
                load.longest = 0.0
                await asyncio.to_thread(disturb)
                # What it did to the streams shows in their next answers.
                await asyncio.sleep(2)
                stalls[name] = load.longest
        print(f"\nthe longest stall was {max(stalls.values()):.2f} s")
        for name, seconds in stalls.items():
            print(f"  {name}: {seconds:.2f} s")
        return await load.check()

    print(f"{asyncio.run(run())} observations of {STREAMS * SERIES} series")
    deployment.up()


def test_streams_go_on_when_replicas_are_added_and_taken_away(deployment: Deployment) -> None:
    deployment.up(replicas=1)
    old, new = Load(deployment, 4, "before"), Load(deployment, 12, "after")

    def streams() -> list[float]:
        found = deployment.prometheus("query", query="tidegate_streams")["result"]
        return [float(one["value"][1]) for one in found]

    async def run() -> int:
        async with old.running():
            await asyncio.to_thread(deployment.up, replicas=3)
            await asyncio.to_thread(eventually, 30, lambda: deployment.gateway_knows() == 3)
            async with new.running():
                # Those that begin now go where there are the fewest.
                await asyncio.to_thread(eventually, 30, lambda: sum(streams()) == 16)
                assert min(streams()) > 0, streams()
                print(f"\nstreams of each replica: {streams()}")
                await asyncio.to_thread(deployment.up, replicas=1)
                await asyncio.to_thread(eventually, 30, lambda: streams() == [16])
        print(f"the longest stall was {max(old.longest, new.longest):.2f} s")
        return await old.check() + await new.check()

    print(f"{asyncio.run(run())} observations")
