"""Bytes that no client would send: always a status, and nobody else notices."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import numpy as np
import psutil
import pytest

from support.server import ServerProcess
from support.streams import RawStream
from tidegate.client import Client
from tidegate.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

SERVICE = "/tidegate.v1.InferenceService/"
AT_ONCE = 8


def values(rows: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)


def stream_messages(token: bytes) -> list[bytes]:
    """Messages of every kind, as a client sends them."""
    model = pb.ModelReference(name="gru")
    series = [pb.SeriesStart(key="fuzz"), pb.SeriesStart(key="token", checkpoint=token)]
    requests = [
        pb.StreamForecastRequest(start=pb.Start(model=model, series=series, checkpoint_every=2)),
        pb.StreamForecastRequest(
            observations=pb.Observations(
                handles=[1, 2], offsets=[0, 3], rows=[2, 1], values=values(3).tobytes()
            )
        ),
        pb.StreamForecastRequest(checkpoint=pb.CheckpointRequest(handles=[0, 1])),
        pb.StreamForecastRequest(finish=pb.Finish(handles=[1, 2])),
    ]
    return [request.SerializeToString() for request in requests]


def unary_messages() -> dict[str, bytes]:
    model = pb.ModelReference(name="gru")
    window = pb.Window(rows=2, values=values(2).tobytes())
    labeller = pb.ModelReference(name="labeller", version="1")
    sentence = pb.Sentence(tokens=["the", "dog"])
    requests = {
        "Forecast": pb.ForecastRequest(model=model, windows=[window]),
        "GetModel": pb.GetModelRequest(model=model),
        "AnnotateSentences": pb.AnnotateSentencesRequest(model=labeller, sentences=[sentence]),
    }
    return {name: request.SerializeToString() for name, request in requests.items()}


def mutated(message: bytes, random: np.random.Generator) -> bytes:
    """A message with some bytes changed, cut out, repeated or put in."""
    data = bytearray(message)
    for _ in range(int(random.integers(1, 5))):
        at = int(random.integers(len(data) + 1))
        kind = random.integers(5)
        if kind == 0 and at < len(data):
            data[at] = random.integers(256)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            del data[at : at + int(random.integers(1, 9))]
        elif kind == 3:
            data[at:at] = random.bytes(int(random.integers(1, 9)))
        else:
            data[at:at] = data[: int(random.integers(1, 40))]
    return bytes(data)


class Fuzzer:
    """Sends mutated messages and counts the statuses."""

    def __init__(self, target: str, token: bytes) -> None:
        self._target = target
        self._start, *_ = self._messages = stream_messages(token)
        self._unary = unary_messages()
        self.statuses: dict[grpc.StatusCode, int] = {}

    async def run(self, numbers: range) -> None:
        async with grpc.aio.insecure_channel(self._target) as channel:
            todo = iter(numbers)
            await asyncio.gather(*(self._work(channel, todo) for _ in range(AT_ONCE)))

    async def _work(self, channel: grpc.aio.Channel, todo: Iterator[int]) -> None:
        for number in todo:
            random = np.random.default_rng(number)
            async with asyncio.timeout(20):
                if number % 4:
                    status = await self._stream(channel, random)
                else:
                    status = await self._ask(channel, random)
            self.statuses[status] = self.statuses.get(status, 0) + 1

    async def _stream(
        self, channel: grpc.aio.Channel, random: np.random.Generator
    ) -> grpc.StatusCode:
        call: Any = channel.stream_stream(SERVICE + "StreamForecast")()
        message = self._messages[int(random.integers(len(self._messages)))]
        # One at most that ends the call: writing to one that has ended hides its status.
        parts = [self._start] if random.integers(2) else []
        parts.append(mutated(message, random))
        try:
            for part in parts:
                await call.write(part)
            await call.done_writing()
            while await call.read() is not grpc.aio.EOF:
                pass
        except (grpc.RpcError, asyncio.InvalidStateError):
            # The status says why.
            pass
        code: grpc.StatusCode = await call.code()
        return code

    async def _ask(self, channel: grpc.aio.Channel, random: np.random.Generator) -> grpc.StatusCode:
        name = str(random.choice(list(self._unary)))
        ask: Any = channel.unary_unary(SERVICE + name)
        code: grpc.StatusCode = await ask(mutated(self._unary[name], random)).code()
        return code


def fuzz(models: Path, count: int) -> int:
    """Sends that many calls beside a stream that must go on; returns by how much memory grew."""
    limits = ["--max-series", "512", "--idle-seconds", "0.2"]
    with ServerProcess(models, *limits) as server, RawStream(server.target) as bystander:
        (handle,) = bystander.start("gru", "bystander")
        rows = values(64, seed=9)
        (checkpoint,) = bystander.ask(checkpoint=pb.CheckpointRequest()).checkpoints.checkpoints
        fuzzer = Fuzzer(server.target, checkpoint.token)
        # Arenas and caches fill first.
        parts = np.array_split(np.arange(count), 32)
        memory = []
        for number, part in enumerate(parts):
            asyncio.run(fuzzer.run(range(int(part[0]), int(part[-1]) + 1)))
            bystander.observe(handle, number, rows[number : number + 1])
            answer = bystander.receive().forecasts
            assert list(answer.offsets) == [number]
            memory.append(psutil.Process(server.process.pid).memory_info().rss)
        with Client(server.target) as client:
            (expected,) = client.forecast("gru", [rows[: len(parts)]])
        assert answer.quantiles == expected.tobytes()
        bystander.end()
        log = server.end()
    print(f"\n{count} calls: {fuzzer.statuses}")
    assert sum(fuzzer.statuses.values()) == count
    assert len(fuzzer.statuses) > 3
    assert not {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN} & set(fuzzer.statuses)
    assert '"level": "error"' not in log
    return int(memory[-1] - memory[len(memory) // 2])


def test_mutated_messages_always_get_a_status_and_disturb_nobody(models: Path) -> None:
    fuzz(models, 400)


@pytest.mark.slow
def test_20_000_mutated_messages_leave_nothing_behind(models: Path) -> None:
    grown = fuzz(models, 20_000)
    print(f"memory over the second half: {grown / 2**20:+.1f} MiB")
    assert grown < 4 * 2**20
