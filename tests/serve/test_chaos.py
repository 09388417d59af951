"""Everything goes wrong at once, and every forecast is the one of an undisturbed run.

Two replicas behind proxies share a Redis. At random moments a replica is killed
with SIGKILL and started again, all connections of a proxy are reset, and Redis is
killed and comes back empty. Half of the series use the client; the others send
duplicates, overlaps and chunks in the wrong order, and find their series again
by key alone.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import grpc.aio
import numpy as np
import pytest

from support import onnx_models
from support.proxy import Proxy
from support.redis_server import RedisServer, needs_redis
from support.server import ServerProcess
from tidegate.client import Retry, UnavailableError, aio
from tidegate.serve.session import Session
from tidegate.v1 import inference_pb2 as pb
from tidegate.v1 import inference_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

ROWS, LONGEST = 400, 20


@dataclass
class Events:
    """What went wrong, to be sure that it did."""

    kills: int = 0
    resets: int = 0
    redis_restarts: int = 0
    restarts: int = 0
    rewinds: int = 0
    refused_gaps: int = 0
    repeated: int = 0
    answers: Counter[str] = field(default_factory=Counter)


class Replica:
    """One server that is killed and comes back on its port, behind a proxy."""

    def __init__(self, models: Path, options: list[str]) -> None:
        self._models = models
        self._options = options
        self._process = ServerProcess(models, *options)
        self._port = self._process.target.rpartition(":")[2]
        self.proxy = Proxy(int(self._port))

    async def kill_and_start(self) -> None:
        self._process.send(signal.SIGKILL)
        await asyncio.to_thread(self._process.wait)
        again = [*self._options, "--port", self._port]
        self._process = await asyncio.to_thread(ServerProcess, self._models, *again)

    def end(self) -> tuple[int, str]:
        self._process.send(signal.SIGTERM)
        return self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Whichever process it is by now.
        self._process.__exit__()


async def with_client(
    client: aio.Client, key: str, rows: NDArray[np.float32], random: np.random.Generator
) -> NDArray[np.float32]:
    """A series as users have it: chunks of any length, forecasts in order."""
    parts = []
    async with await opened(client, key, random) as stream:
        at = 0
        while at < len(rows):
            end = at + int(random.integers(1, LONGEST))
            parts.append(await stream.send(key, rows[at:end]))
            at = end
    return np.concatenate(parts)


async def opened(client: aio.Client, key: str, random: np.random.Generator) -> aio.ForecastStream:
    """A stream that begins is not resumed yet: with both replicas gone, one tries again."""
    while True:
        try:
            return await client.stream(
                "gru", [key], every_step=True, checkpoint_every=16, take_over=True, reset=True
            )
        except UnavailableError:
            await asyncio.sleep(0.2 * random.random())


class Rough:
    """A series without the client: what it is answered is kept by offset."""

    def __init__(
        self, key: str, rows: NDArray[np.float32], random: np.random.Generator, events: Events
    ) -> None:
        self.key = key
        self.rows = rows
        self.random = random
        self.events = events
        self.forecasts: dict[int, bytes] = {}

    async def run(self, stubs: list[Any]) -> NDArray[np.float32]:
        turn = int(self.random.integers(len(stubs)))
        while len(self.forecasts) < len(self.rows):
            call = stubs[turn % len(stubs)].StreamForecast()
            try:
                await self._talk(call)
            except (grpc.RpcError, asyncio.InvalidStateError, ConnectionError):
                turn += 1
                self.events.restarts += 1
                await asyncio.sleep(0.2 * self.random.random())
            finally:
                call.cancel()
        flat = b"".join(self.forecasts[offset] for offset in range(len(self.rows)))
        return np.frombuffer(flat, "<f4").reshape(len(self.rows), -1)

    async def _talk(self, call: Any) -> None:
        missing = next(i for i in range(len(self.rows) + 1) if i not in self.forecasts)
        handle, at = await self._start(call, reset=False)
        if at > missing:
            # The server is ahead of the answers: they can only be had by beginning anew.
            self.events.rewinds += 1
            handle, at = await self._start(call, reset=True)
        while at < len(self.rows):
            chunks, at = self._chunks(at)
            for start, end in chunks:
                await self._send(call, handle, start, end)
            for _ in chunks:
                await self._receive(call)
        await call.write(pb.StreamForecastRequest(finish=pb.Finish(handles=[handle])))
        await call.read()

    def _chunks(self, at: int) -> tuple[list[tuple[int, int]], int]:
        """Some messages that apply rows up to the offset returned, with much too much in them."""
        a, b = (min(len(self.rows), at + int(n)) for n in self.random.integers(1, LONGEST, 2))
        end = max(a, b)
        back = max(0, at - int(self.random.integers(0, LONGEST)))
        orders = {
            "plain": [(at, end)],
            "twice": [(at, end), (at, end)],
            "overlap": [(back, end)],
            "reordered": [(min(a, b), end), (at, min(a, b)), (min(a, b), end)],
            "old": [(back, at), (at, end)],
        }
        name = str(self.random.choice(list(orders)))
        return [(start, stop) for start, stop in orders[name] if start < stop], end

    async def _start(self, call: Any, *, reset: bool) -> tuple[int, int]:
        series = pb.SeriesStart(key=self.key, take_over=True, reset=reset)
        model = pb.ModelReference(name="gru")
        start = pb.Start(model=model, series=[series], every_step=True)
        await call.write(pb.StreamForecastRequest(start=start))
        response = await call.read()
        if response is grpc.aio.EOF or response.WhichOneof("response") == "error":
            # Redis is gone: to be tried again.
            raise ConnectionError
        (started,) = response.started.series
        return started.handle, started.next_offset

    async def _send(self, call: Any, handle: int, start: int, end: int) -> None:
        message = pb.Observations(
            handles=[handle],
            offsets=[start],
            rows=[end - start],
            values=self.rows[start:end].tobytes(),
        )
        await call.write(pb.StreamForecastRequest(observations=message))

    async def _receive(self, call: Any) -> None:
        while True:
            response = await call.read()
            if response is grpc.aio.EOF:
                raise ConnectionError
            kind = response.WhichOneof("response")
            self.events.answers[kind] += 1
            if kind == "error":
                if response.error.code != grpc.StatusCode.OUT_OF_RANGE.value[0]:
                    # Another replica's claim came between: find the series again.
                    raise ConnectionError
                self.events.refused_gaps += 1
            if kind == "forecasts":
                self._keep(response.forecasts)
                return

    def _keep(self, forecasts: pb.Forecasts) -> None:
        size = len(forecasts.quantiles) // max(1, len(forecasts.offsets))
        for index, offset in enumerate(forecasts.offsets):
            forecast = forecasts.quantiles[index * size : (index + 1) * size]
            self.events.repeated += offset in self.forecasts
            assert self.forecasts.setdefault(offset, forecast) == forecast


async def disturb(replicas: list[Replica], store: RedisServer, kills: int, events: Events) -> None:
    """Kills, resets and restarts in turn, at random moments."""
    random = np.random.default_rng(7)
    for number in range(kills):
        await asyncio.sleep(0.5 * random.random())
        events.resets += replicas[number % 2].proxy.reset_all()
        if number % 5 == 2:
            store.kill()
            await asyncio.sleep(0.3 * random.random())
            store.start()
            events.redis_restarts += 1
        await asyncio.sleep(0.5 * random.random())
        await replicas[int(random.integers(2))].kill_and_start()
        events.kills += 1


async def run(
    replicas: list[Replica], models: Path, store: RedisServer, streams: int, kills: int
) -> None:
    events = Events()
    rows = np.random.default_rng(0).normal(size=(streams, ROWS, 3)).astype(np.float32)
    retry = Retry(seconds=120, longest=0.5)
    async with replicas[0].proxy as one, replicas[1].proxy as two:
        targets = [one.target, two.target]
        channels = [grpc.aio.insecure_channel(target, QUICK) for target in targets]
        stubs = [pb_grpc.InferenceServiceStub(channel) for channel in channels]
        async with aio.Client(targets, retry=retry) as client:
            tasks: list[Any] = [asyncio.create_task(disturb(replicas, store, kills, events))]
            for number in range(streams):
                random = np.random.default_rng(number)
                key = f"series-{number}"
                tasks.append(
                    with_client(client, key, rows[number], random)
                    if number % 2
                    else Rough(key, rows[number], random, events).run(stubs)
                )
            _, *forecasts = await asyncio.gather(*tasks)
        for channel in channels:
            await channel.close()
    for replica in replicas:
        status, log = await asyncio.to_thread(replica.end)
        assert status == 0
        assert '"level": "error"' not in log
    print(f"\n{streams} series of {ROWS} observations: {events}")
    assert events.kills == kills
    assert min(events.resets, events.refused_gaps, events.repeated, events.restarts) > 0
    expected = offline(models, rows)
    for number, forecast in enumerate(forecasts):
        np.testing.assert_array_equal(
            forecast.reshape(ROWS, -1), expected[number], err_msg=f"series {number}"
        )


QUICK = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 300)]


def offline(models: Path, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The forecasts of all series by the bare graph, float32 [series, rows, values]."""
    session = Session((models / "gru" / "1" / "model.onnx").read_bytes())
    count = len(rows)
    feeds = {
        "x": rows,
        "lengths": np.full(count, ROWS, np.int32),
        "h": np.zeros((2, count, 16), np.float32),
        "x_previous": np.full((1, count, 3), np.nan, np.float32),
    }
    quantiles: NDArray[np.float32] = session.run(feeds)["quantiles"]
    return quantiles.reshape(count, ROWS, -1)


@needs_redis
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("streams", "kills"), [(500, 20)])
def test_nothing_is_lost_or_doubled_whatever_breaks(
    tmp_path: Path, streams: int, kills: int
) -> None:
    models = tmp_path / "models"
    onnx_models.save(onnx_models.forecaster("gru", differenced=True), models, "gru")
    key_file = tmp_path / "checkpoint.key"
    key_file.write_bytes(bytes(range(32)))
    options = ["--checkpoint-key-file", str(key_file)]
    with RedisServer(tmp_path) as store:
        options += ["--state-store", store.url]
        with Replica(models, options) as one, Replica(models, options) as two:
            asyncio.run(run([one, two], models, store, streams, kills))
