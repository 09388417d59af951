"""What becomes of live streams when another version takes their model's place."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from tidegate.serve.errors import AbortedError, NotFoundError
from tidegate.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.serve.model import Model
    from tidegate.serve.service import Service
    from tidegate.serve.stream_call import StreamCall

logger = logging.getLogger(__name__)


class Streams(Protocol):
    """Speaks to live streams, and ends them."""

    def tell(self, call: StreamCall, response: pb.StreamForecastResponse) -> None:
        """Sends a message that the client has not asked for, as soon as it reads."""

    def end(self, call: StreamCall, error: AbortedError) -> None:
        """Ends the stream with the error's status."""


class Rollover:
    """Lets streams finish on a replaced version, then asks them to restart, then ends them.

    A stream that asked for a version by its number is replaced only when that
    version is gone; one that asked for an alias or for the highest version,
    when another version is what it asked for.

    Args:
        service: Has the streams and the models.
        streams: Speaks to the streams.
    """

    def __init__(self, service: Service, streams: Streams) -> None:
        self._service = service
        self._streams = streams
        self._timers: dict[StreamCall, asyncio.TimerHandle] = {}

    def check(self) -> None:
        """Gives each stream whose version was replaced its time to finish."""
        seconds = self._service.settings.drain_old
        for call in self._service.calls:
            if call not in self._timers and self._is_replaced(call):
                self._later(call, seconds, self._ask)

    def forget(self, call: StreamCall) -> None:
        """A stream has ended; a timer would hold its states and its version in memory."""
        if timer := self._timers.pop(call, None):
            timer.cancel()

    def close(self) -> None:
        """Gives up; the server ends all streams."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _ask(self, call: StreamCall) -> None:
        if not self._is_replaced(call):
            # The alias has moved back.
            del self._timers[call]
            return
        seconds = self._service.settings.drain_seconds
        successor = self._successor(call)
        notice = pb.Superseded(
            model=call.reference.name,
            version=successor.version if successor else "",
            seconds=seconds,
        )
        self._streams.tell(call, pb.StreamForecastResponse(superseded=notice))
        self._later(call, seconds, self._end)

    def _end(self, call: StreamCall) -> None:
        del self._timers[call]
        model, successor = call.model, self._successor(call)
        if model is None or not self._is_replaced(call):
            return
        by = f"by version {successor.version}" if successor else "and has no successor"
        error = AbortedError(
            f"{model.label} was replaced {by}: open the stream again and start its series anew"
        )
        logger.info("ended a stream on %s, which was replaced", model.label)
        self._streams.end(call, error)

    def _later(self, call: StreamCall, seconds: float, then: Callable[[StreamCall], None]) -> None:
        loop = asyncio.get_running_loop()
        self._timers[call] = loop.call_later(seconds, then, call)

    def _is_replaced(self, call: StreamCall) -> bool:
        return call.model is not None and self._successor(call) is not call.model

    def _successor(self, call: StreamCall) -> Model | None:
        reference = call.reference
        try:
            return self._service.repository.get(
                reference.name, version=reference.version, alias=reference.alias
            )
        except NotFoundError:
            return None
