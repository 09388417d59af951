"""The load: streams that each send their next message when the last one is answered.

`serve_load.py TARGET STREAMS SERIES SECONDS [CONNECTIONS]` prints one JSON object. Messages are
made while the clock runs, answers are not parsed: the client should cost little.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack
from itertools import count
from typing import TYPE_CHECKING

import grpc.aio
import numpy as np

from serve_shape import FEATURES, NAME
from tidegate.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

METHOD = "/tidegate.v1.InferenceService/StreamForecast"
WARM_UP_SECONDS = 0.5


class Load:
    """Streams over some channels in turn, and the time of each answer.

    Args:
        channels: To the server.
        streams: Number of streams.
        series: Series of each, all in every message.
    """

    def __init__(self, channels: Sequence[grpc.aio.Channel], streams: int, series: int) -> None:
        self._open: list[Callable[[], grpc.aio.StreamStreamCall[bytes, bytes]]] = [
            channel.stream_stream(METHOD) for channel in channels
        ]
        self._streams = streams
        self._series = series
        self._latencies: list[float] = []
        self._measuring = False
        self._ending = False

    async def run(self, seconds: float) -> dict[str, float]:
        """Measures for some seconds after the warm-up."""
        started = asyncio.Barrier(self._streams + 1)
        tasks = [
            asyncio.create_task(self._stream(number, started)) for number in range(self._streams)
        ]
        await started.wait()
        await asyncio.sleep(WARM_UP_SECONDS)
        self._measuring, begin = True, time.perf_counter()
        await asyncio.sleep(seconds)
        self._measuring, took = False, time.perf_counter() - begin
        self._ending = True
        await asyncio.gather(*tasks)
        return {
            "messages": len(self._latencies),
            "rows": self._series * len(self._latencies),
            "seconds": took,
            "p50_ms": 1e3 * float(np.percentile(self._latencies, 50)),
            "p99_ms": 1e3 * float(np.percentile(self._latencies, 99)),
        }

    async def _stream(self, number: int, started: asyncio.Barrier) -> None:
        call = self._open[number % len(self._open)]()
        series = [pb.SeriesStart(key=f"{number}-{i}", reset=True) for i in range(self._series)]
        start = pb.Start(model=pb.ModelReference(name=NAME), series=series)
        await call.write(pb.StreamForecastRequest(start=start).SerializeToString())
        answer = _parsed(await call.read())
        handles = [one.handle for one in answer.started.series]
        if len(handles) != self._series:
            raise RuntimeError(f"the server answered {answer}")
        rows = np.random.default_rng(number).normal(size=(self._series, FEATURES)).astype("<f4")
        values = rows.tobytes()
        await started.wait()
        for offset in count():
            if self._ending:
                break
            message = pb.StreamForecastRequest(
                observations=pb.Observations(
                    handles=handles, offsets=[offset] * self._series, values=values
                )
            ).SerializeToString()
            sent = time.perf_counter()
            await call.write(message)
            answer_bytes = await call.read()
            if self._measuring:
                self._latencies.append(time.perf_counter() - sent)
        last = _parsed(answer_bytes)
        if list(last.forecasts.offsets) != [offset - 1] * self._series:
            raise RuntimeError(f"the last answer is {last}")
        # The next run starts them anew, on whichever server it reaches.
        await call.write(pb.StreamForecastRequest(finish=pb.Finish()).SerializeToString())
        await call.done_writing()
        while await call.read() is not grpc.aio.EOF:
            pass


def _parsed(answer: object) -> pb.StreamForecastResponse:
    if not isinstance(answer, bytes):
        raise TypeError("the stream has ended")
    return pb.StreamForecastResponse.FromString(answer)


async def main(
    target: str, streams: int, series: int, seconds: float, connections: int = 1
) -> None:
    """Runs one measurement."""
    limit = 16 * 2**20
    options = [(f"grpc.max_{way}_message_length", limit) for way in ("receive", "send")]
    # Channels to one target would share a connection.
    options.append(("grpc.use_local_subchannel_pool", 1))
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(target, options=options))
            for _ in range(connections)
        ]
        result = await Load(channels, streams, series).run(seconds)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    target, streams, series, seconds, *connections = sys.argv[1:]
    asyncio.run(main(target, int(streams), int(series), float(seconds), *map(int, connections)))
