"""A thousand connections at a time, and a reader that does not read for half a minute."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import numpy as np
import psutil
import pytest

from support import onnx_models
from support.server import ServerProcess
from tidegate.client import Client
from tidegate.v1 import inference_pb2 as pb
from tidegate.v1 import inference_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = np.random.default_rng(0).normal(size=(1_000, 3, 3)).astype(np.float32)
# Channels share connections unless told not to.
OWN = [("grpc.use_local_subchannel_pool", 1)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    onnx_models.save(onnx_models.forecaster("gru"), tmp_path, "gru")
    return tmp_path


def resident(server: ServerProcess) -> int:
    return int(psutil.Process(server.process.pid).memory_info().rss)


def request(**parts: Any) -> pb.StreamForecastRequest:
    return pb.StreamForecastRequest(**parts)


async def one_connection(target: str, number: int, all_here: asyncio.Barrier) -> bytes:
    """A stream on a connection of its own; the last forecast of its series."""
    async with grpc.aio.insecure_channel(target, OWN) as channel:
        call: Any = pb_grpc.InferenceServiceStub(channel).StreamForecast()
        series = [pb.SeriesStart(key=f"{number}")]
        start = pb.Start(model=pb.ModelReference(name="gru"), series=series)
        await call.write(request(start=start))
        handle = (await call.read()).started.series[0].handle
        await all_here.wait()
        for offset, row in enumerate(ROWS[number]):
            message = pb.Observations(handles=[handle], offsets=[offset], values=row.tobytes())
            await call.write(request(observations=message))
            answer = await call.read()
        await all_here.wait()
        await call.done_writing()
        assert await call.code() == grpc.StatusCode.OK
        quantiles: bytes = answer.forecasts.quantiles
        return quantiles


@pytest.mark.slow
async def test_1_000_connections_at_a_time_each_get_their_own_forecasts(folder: Path) -> None:
    with ServerProcess(folder) as server, Client(server.target) as client:
        expected = client.forecast("gru", list(ROWS))
        before = resident(server)
        all_here = asyncio.Barrier(len(ROWS))
        forecasts = await asyncio.gather(
            *(one_connection(server.target, number, all_here) for number in range(len(ROWS)))
        )
        each = (resident(server) - before) / len(ROWS) / 1024
        print(f"\n{len(ROWS)} connections with a stream each: {each:.0f} KiB each")
        assert forecasts == [one.tobytes() for one in expected]
        client.close()
        assert '"level": "error"' not in server.end()


@pytest.mark.slow
def test_a_server_does_not_grow_for_a_client_that_sends_and_never_reads(folder: Path) -> None:
    """30 seconds of messages, each answered with 100 KB that wait for the reader."""
    chunk = np.zeros((2_000, 3), np.float32)
    stop, sent = threading.Event(), [0]

    def messages() -> Iterator[pb.StreamForecastRequest]:
        series = [pb.SeriesStart(key="a")]
        start = pb.Start(model=pb.ModelReference(name="gru"), series=series, every_step=True)
        yield request(start=start)
        while not stop.is_set():
            yield request(
                observations=pb.Observations(
                    handles=[0],
                    offsets=[sent[0] * len(chunk)],
                    rows=[len(chunk)],
                    values=chunk.tobytes(),
                )
            )
            sent[0] += 1

    with ServerProcess(folder) as server, Client(server.target) as client:
        client.forecast("gru", [chunk])
        before = resident(server)
        with grpc.insecure_channel(server.target, OWN) as channel:
            call: Any = pb_grpc.InferenceServiceStub(channel).StreamForecast(messages())
            end, most = time.monotonic() + 30, before
            with client.stream("gru", ["other"]) as other:
                while time.monotonic() < end:
                    # Somebody else is served meanwhile.
                    other.step("other", ROWS[0, 0])
                    most = max(most, resident(server))
            stop.set()
            call.cancel()
        print(f"\n{sent[0]} messages left the client; the server grew by {most - before} bytes")
        client.close()
        server.end()
    assert most - before < 20 * 2**20
