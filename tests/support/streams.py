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


class RawStream:
    """One StreamForecast call, message by message."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.insecure_channel(target)
        self._requests: queue.SimpleQueue[pb.StreamForecastRequest | None] = queue.SimpleQueue()
        stub = pb_grpc.InferenceServiceStub(self._channel)
        self._call = stub.StreamForecast(iter(self._requests.get, None))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
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

    def start(self, model: str, *keys: str, **options: Any) -> list[int]:
        """Starts series and returns their handles."""
        series = [pb.SeriesStart(key=key) for key in keys]
        reference = pb.ModelReference(name=model)
        response = self.ask(start=pb.Start(model=reference, series=series, **options))
        return [series.handle for series in response.started.series]

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
        """Closes this side and reads up to the status."""
        self._requests.put(None)
        return self.failure()
