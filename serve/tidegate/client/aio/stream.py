"""Forecasts along live series, awaited."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc
import grpc.aio

from tidegate.client.driving import drive_async
from tidegate.client.errors import UnavailableError, from_rpc
from tidegate.client.frames import chunks_of, to_frame
from tidegate.client.protocol import Protocol
from tidegate.client.steps import Connect, Consult, Receive, Send, Wait
from tidegate.client.stream import as_rows, forecasts_or_error
from tidegate.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence

    import numpy as np
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from tidegate.client.steps import Request, Response, Step, Steps
    from tidegate.v1.model_spec_pb2 import ForecastSpec

T = TypeVar("T")


class ForecastStream:
    """Live series on a server; see `tidegate.client.ForecastStream`.

    One operation runs at a time; several tasks may share a stream.
    """

    def __init__(
        self,
        protocol: Protocol,
        stubs: Sequence[Any],
        metadata: tuple[tuple[str, str], ...],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._protocol = protocol
        self._stubs = stubs
        self._metadata = metadata
        self._sleep = sleep
        self._lock = asyncio.Lock()
        self._call: Any = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self.close(keep=kind is not None)

    @property
    def model(self) -> str:
        """Name and version of the model that runs: "name/version"."""
        return self._protocol.model

    @property
    def spec(self) -> ForecastSpec:
        """What this version says about its forecasts: features, targets, quantile levels."""
        return self._protocol.spec

    @property
    def series(self) -> tuple[str, ...]:
        """Keys of the live series, in the order in which they were started."""
        return tuple(self._protocol.series)

    @property
    def dropped(self) -> Mapping[str, int]:
        """Series that began anew since the server had to drop their state, and where it was."""
        return self._protocol.dropped

    @property
    def checkpoints(self) -> dict[str, bytes]:
        """The newest checkpoint of each series that has one, without asking the server."""
        series = self._protocol.series.values()
        return {one.key: one.token for one in series if one.token}

    async def start(
        self,
        series: Iterable[str] | Mapping[str, bytes],
        *,
        take_over: bool = False,
        reset: bool = False,
    ) -> None:
        """Starts more series; raises for the first that is refused, the others are started."""
        await self._do(self._protocol.start(series, take_over=take_over, reset=reset))

    def next_offset(self, key: str) -> int:
        """How many observations of a series are answered; the next one has this index."""
        return self._protocol.find(key).next_offset

    async def step(self, key: str, row: ArrayLike) -> NDArray[np.float32]:
        """Applies one observation; float32 [horizon, targets, quantiles]."""
        return (await self.step_many({key: row}))[key]

    async def step_many(self, rows: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float32]]:
        """Applies one observation of each of several series, in one message."""
        answer = await self.send_many(as_rows(rows))
        return {key: forecasts[-1] for key, forecasts in answer.items()}

    async def send(self, key: str, rows: ArrayLike) -> NDArray[np.float32]:
        """Applies several observations of a series; float32 [A, horizon, targets, quantiles]."""
        return (await self.send_many({key: rows}))[key]

    async def send_many(self, chunks: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float32]]:
        """Applies several observations of each of several series, in one message."""
        return forecasts_or_error(await self._do(self._protocol.exchange(chunks)))

    async def map(
        self,
        chunks: Iterable[Mapping[str, ArrayLike]] | AsyncIterable[Mapping[str, ArrayLike]],
    ) -> AsyncIterator[dict[str, NDArray[np.float32]]]:
        """The answers to one message after the other; not interrupted by servers that go."""
        if isinstance(chunks, AsyncIterable):
            async for message in chunks:
                yield await self.send_many(message)
        else:
            for message in chunks:
                yield await self.send_many(message)

    async def send_frame(self, frame: pd.DataFrame, key: str = "unique_id") -> pd.DataFrame:
        """Applies the rows of a long pandas frame; the forecast after each series' last row."""
        chunks = chunks_of(frame, [f.name for f in self._protocol.spec.features], key)
        answer = await self.send_many(chunks)
        forecasts = {name: forecast[-1] for name, forecast in answer.items()}
        return to_frame(forecasts, self._protocol.spec, key)

    async def checkpoint(self, key: str) -> bytes:
        """A token from which any replica with the same key file goes on."""
        return (await self._do(self._protocol.checkpoint([key])))[key]

    async def checkpoint_all(self) -> dict[str, bytes]:
        """Tokens of all live series."""
        return await self._do(self._protocol.checkpoint(self.series))

    async def finish(self, key: str) -> None:
        """Ends a series and frees its place on the server."""
        await self._do(self._protocol.finish([key]))

    async def close(self, *, keep: bool = False) -> None:
        """Ends the stream; its series are finished, or with `keep` kept for a while."""
        if self._call is None:
            return
        try:
            for request in self._protocol.farewell(keep=keep):
                await self._call.write(request)
            await self._call.done_writing()
            while await self._call.read():
                pass
        except (grpc.RpcError, asyncio.InvalidStateError):
            # It has ended already; whoever waited for an answer was told why.
            return
        finally:
            self._call.cancel()

    async def open(
        self, series: Iterable[str] | Mapping[str, bytes], *, take_over: bool, reset: bool
    ) -> None:
        """Starts the first series; `Client.stream` does it."""
        try:
            await self._do(self._protocol.open(series, take_over=take_over, reset=reset))
        except BaseException:
            await self.close(keep=True)
            raise

    async def _do(self, steps: Steps[T]) -> T:
        """Does what an operation of the protocol asks for, and returns its value."""
        async with self._lock:
            return await drive_async(steps, self._perform)

    async def _perform(self, step: Step) -> object:
        match step:
            case Connect(target):
                if self._call is not None:
                    self._call.cancel()
                stub: Any = self._stubs[target]
                self._call = stub.StreamForecast(metadata=self._metadata)
            case Send(request):
                await self._send(request)
            case Receive():
                return await self._receive()
            case Consult(function, argument):
                result = function(argument)
                return await result if inspect.isawaitable(result) else result
            case Wait(seconds):
                await self._sleep(seconds)
        return None

    async def _send(self, request: Request) -> None:
        try:
            await self._call.write(request)
        except (grpc.RpcError, asyncio.InvalidStateError):
            # The call has ended: reading says why.
            return

    async def _raise_status(self) -> None:
        """A call that ended while nobody read does not raise its status by itself."""
        call = self._call
        if (code := await call.code()) is not grpc.StatusCode.OK:
            metadata = await call.initial_metadata(), await call.trailing_metadata()
            raise from_rpc(grpc.aio.AioRpcError(code, *metadata, await call.details()))

    async def _receive(self) -> Response:
        try:
            response = await self._call.read()
        except grpc.RpcError as error:
            raise from_rpc(error) from error
        if not isinstance(response, pb.StreamForecastResponse):
            await self._raise_status()
            raise UnavailableError("the stream has ended: open another one")
        return response
