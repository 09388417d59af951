"""Drives the client's protocol against real services without sockets, with faults on demand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from tidegate.client.driving import drive_async
from tidegate.client.errors import UnavailableError
from tidegate.client.steps import Connect, Consult, Receive, Send, Wait
from tidegate.serve.errors import ServingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tidegate.client.protocol import Protocol
    from tidegate.client.steps import Step, Steps
    from tidegate.serve.service import Service
    from tidegate.serve.stream_call import StreamCall
    from tidegate.v1 import inference_pb2 as pb

T = TypeVar("T")


class MemoryDriver:
    """Performs steps as gRPC would, but for the faults.

    Attributes:
        waits: The pauses that were asked for; none of them takes time.
        connects: The servers that were tried.
        lose: Is asked at each message sent and received whether the connection is lost there.

    Args:
        services: One for each target; None is a server that is not there.
    """

    def __init__(self, services: Sequence[Service | None]) -> None:
        self.services = list(services)
        self.waits: list[float] = []
        self.connects: list[int] = []
        self.lose: Callable[[str], bool] = lambda _: False
        self._call: tuple[Service, StreamCall] | None = None
        self._answers: list[pb.StreamForecastResponse] = []

    async def do(self, steps: Steps[T]) -> T:
        return await drive_async(steps, self._perform)

    def break_off(self) -> None:
        """The connection is lost; the server keeps the series."""
        if self._call is not None:
            service, call = self._call
            service.close_stream(call)
        self._call = None
        self._answers = []

    async def close(self, protocol: Protocol, *, keep: bool = False) -> None:
        for request in protocol.farewell(keep=keep):
            await self._perform(Send(request))
        self.break_off()

    def tell(self, response: pb.StreamForecastResponse) -> None:
        """The server says something that it was not asked for."""
        self._answers.append(response)

    @property
    def call(self) -> StreamCall:
        assert self._call is not None
        return self._call[1]

    async def _perform(self, step: Step) -> object:
        match step:
            case Connect(target):
                self.connects.append(target)
                self.break_off()
                service = self.services[target]
                if service is not None:
                    self._call = service, service.open_stream("ann", self.tell)
            case Send(request):
                await self._send(request)
            case Receive():
                return self._receive()
            case Consult(function, argument):
                return function(argument)
            case Wait(seconds):
                self.waits.append(seconds)
        return None

    async def _send(self, request: pb.StreamForecastRequest) -> None:
        if self.lose("before the server has it"):
            self.break_off()
        if self._call is None:
            return
        try:
            self._answers += await self._call[1].handle(request)
        except ServingError as error:
            raise AssertionError("the client sent what ends a stream") from error
        if self.lose("after the server has it"):
            self.break_off()
        await asyncio.sleep(0)

    def _receive(self) -> pb.StreamForecastResponse:
        if self._call is None or self.lose("before an answer"):
            self.break_off()
            raise UnavailableError("the connection was lost")
        return self._answers.pop(0)
