"""A raw stream, for messages that the client would never send."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any, Self

import grpc

from tidegate.v1 import inference_pb2 as pb
from tidegate.v1 import inference_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tidegate.serve.service import Service


class RawStream:
    """One StreamForecast call, message by message.

    Attributes:
        started: What the server said of the series started last.

    Args:
        target: HOST:PORT.
        own_connection: Whether it shares none with other streams of this process.
    """

    def __init__(self, target: str, *, own_connection: bool = False) -> None:
        options = [("grpc.use_local_subchannel_pool", int(own_connection))]
        self._channel = grpc.insecure_channel(target, options=options)
        self._requests: queue.SimpleQueue[pb.StreamForecastRequest | None] = queue.SimpleQueue()
        self._started = False
        stub = pb_grpc.InferenceServiceStub(self._channel)
        self._call = stub.StreamForecast(iter(self._requests.get, None))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._started:
            self.send(finish=pb.Finish())
        self.end()
        self._channel.close()

    def send(self, **request: Any) -> None:
        self._requests.put(pb.StreamForecastRequest(**request))

    def receive(self) -> pb.StreamForecastResponse:
        return next(self._call)

    def ask(self, **request: Any) -> pb.StreamForecastResponse:
        """Sends one message and returns the first answer."""
        self.send(**request)
        return self.receive()

    def start(
        self, model: str, *keys: str, reset: bool = True, take_over: bool = False, **options: Any
    ) -> list[int]:
        """Starts series, at offset 0 unless told otherwise, and returns their handles."""
        series = [pb.SeriesStart(key=key, reset=reset, take_over=take_over) for key in keys]
        self._started = True
        reference = pb.ModelReference(name=model)
        response = self.ask(start=pb.Start(model=reference, series=series, **options))
        self.started = list(response.started.series)
        return [series.handle for series in self.started]

    def observe(self, handle: int, offset: int, values: NDArray[np.float32]) -> None:
        """Sends one chunk [rows, features]."""
        self.send(
            observations=pb.Observations(
                handles=[handle], offsets=[offset], rows=[len(values)], values=values.tobytes()
            )
        )

    def failure(self) -> tuple[grpc.StatusCode, str]:
        """Reads up to the status that ends the call."""
        try:
            for _ in self._call:
                pass
        except grpc.RpcError:
            return self._call.code(), self._call.details()
        return grpc.StatusCode.OK, ""

    def cancel(self) -> None:
        """Gives the call up without another word."""
        self._call.cancel()

    def end(self) -> tuple[grpc.StatusCode, str]:
        """Closes this side, finishing nothing, and reads up to the status."""
        self._requests.put(None)
        return self.failure()


class Wire:
    """A stream of a `Service` without a socket, opened by any identity."""

    def __init__(self, service: Service, identity: str = "") -> None:
        self.notices: list[pb.StreamForecastResponse] = []
        self.call = service.open_stream(identity, self.notices.append)

    async def ask(self, **request: Any) -> list[pb.StreamForecastResponse]:
        return await self.call.handle(pb.StreamForecastRequest(**request))

    async def start(self, model: str, *keys: str, **options: Any) -> list[int]:
        (response,) = await self.start_responses(model, *keys, **options)
        return [series.handle for series in response.started.series]

    async def start_refused(self, model: str, key: str, **options: Any) -> list[pb.SeriesError]:
        *errors, started = await self.start_responses(model, key, **options)
        assert not started.started.series
        return [response.error for response in errors]

    async def observe(
        self, handle: int, offset: int, values: NDArray[np.float32]
    ) -> list[pb.StreamForecastResponse]:
        return await self.ask(
            observations=pb.Observations(
                handles=[handle], offsets=[offset], rows=[len(values)], values=values.tobytes()
            )
        )

    async def checkpoint(self, *handles: int) -> list[pb.StreamForecastResponse]:
        return await self.ask(checkpoint=pb.CheckpointRequest(handles=handles))

    async def finish(self, *handles: int) -> list[pb.StreamForecastResponse]:
        return await self.ask(finish=pb.Finish(handles=handles))

    async def start_responses(
        self, model: str, *keys: str, **options: Any
    ) -> list[pb.StreamForecastResponse]:
        series = [pb.SeriesStart(key=key, **options) for key in keys]
        return await self.ask(start=pb.Start(model=pb.ModelReference(name=model), series=series))
