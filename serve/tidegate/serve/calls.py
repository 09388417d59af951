"""What every call has: a request id, a line in the log, numbers in the metrics."""

from __future__ import annotations

import contextlib
import logging
import math
import re
import secrets
import time
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2

from tidegate.serve import tracing
from tidegate.serve.logs import call_fields

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from opentelemetry.trace import Span

    from tidegate.serve.errors import ServingError
    from tidegate.serve.stats import ServerStats

Context = grpc.aio.ServicerContext[Any, Any]
Message = TypeVar("Message")
REQUEST_ID = "x-request-id"
_DETAILS = "grpc-status-details-bin"
_STATUS = {status.value[0]: status for status in grpc.StatusCode}
_CLEAN = re.compile(r"[\x21-\x7e]{1,128}")

logger = logging.getLogger(__name__)


class ByteCounter(grpc.aio.ServerInterceptor):
    """Counts the bytes of the messages of every method.

    Args:
        stats: Where they are counted.
    """

    def __init__(self, stats: ServerStats) -> None:
        self._stats = stats
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Puts the counting between gRPC and the (de)serializers of the method."""
        method = handler_call_details.method
        if method not in self._handlers:
            handler: Any = await continuation(handler_call_details)
            if handler is None:
                return None
            self._handlers[method] = handler._replace(
                request_deserializer=self._receiving(handler.request_deserializer),
                response_serializer=self._sending(handler.response_serializer),
            )
        return self._handlers[method]

    def _receiving(self, parse: Callable[[bytes], Message]) -> Callable[[bytes], Message]:
        stats = self._stats

        def receive(data: bytes) -> Message:
            stats.received_bytes += len(data)
            return parse(data)

        return receive

    def _sending(self, serialize: Callable[[Message], bytes]) -> Callable[[Message], bytes]:
        stats = self._stats

        def send(message: Message) -> bytes:
            data = serialize(message)
            stats.sent_bytes += len(data)
            return data

        return send


@contextlib.contextmanager
def observed(
    method: str, context: Context, stats: ServerStats, *, stream: bool
) -> Iterator[dict[str, str]]:
    """One call from its beginning to its end.

    The request id is the client's `x-request-id` or a new one. It is in every
    record that is logged meanwhile, and in the call's trailing metadata.

    Args:
        method: Name of the method.
        context: gRPC's.
        stats: Where it is counted.
        stream: Whether its end is worth a line in the log though all was well.

    Yields:
        What all those records say; the model may be added.
    """
    number = _request_id(context)
    fields = {"request_id": number}
    call_fields.set(fields)
    context.set_trailing_metadata(((REQUEST_ID, number),))
    begin = time.monotonic()

    def end(code: str, span: Span | None) -> None:
        stats.calls[method, code] += 1
        if span is not None:
            status: int = grpc.StatusCode[code].value[0]
            span.set_attributes({"rpc.grpc.status_code": status, **fields})
        level = logging.INFO if stream or code != "OK" else logging.DEBUG
        if logger.isEnabledFor(level):
            seconds = round(time.monotonic() - begin, 6)
            extra = {"method": method, "code": code, "seconds": seconds}
            logger.log(level, "call ended", extra=extra)

    with tracing.call(method, context.invocation_metadata() or ()) as span:
        try:
            yield fields
        except GeneratorExit:
            # The event loop has ended before the call.
            raise
        except BaseException as error:
            end(_code(context, error), span)
            raise
        end("OK", span)


async def refuse(context: Context, error: ServingError) -> NoReturn:
    """Ends a call with an error's status, and the delay after which to try again if it has one."""
    metadata: list[tuple[str, str | bytes]] = []
    if fields := call_fields.get():
        metadata.append((REQUEST_ID, fields["request_id"]))
    if error.retry_seconds is not None:
        metadata.append((_DETAILS, _retry_details(error)))
    await context.abort(_STATUS[error.code], str(error), tuple(metadata))


def _retry_details(error: ServingError) -> bytes:
    """A serialized google.rpc.Status with RetryInfo, as all gRPC clients know to read it."""
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(math.ceil(1e3 * (error.retry_seconds or 0)))
    status = status_pb2.Status(code=error.code, message=str(error))
    status.details.add().Pack(retry)
    serialized: bytes = status.SerializeToString()
    return serialized


def _request_id(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID and isinstance(value, str) and _CLEAN.fullmatch(value):
            return value
    return secrets.token_hex(8)


def _code(context: Context, error: BaseException) -> str:
    """The name of the status with which a call ends that raised."""
    if not isinstance(error, grpc.aio.AbortError):
        return "CANCELLED"
    return context.code().name
