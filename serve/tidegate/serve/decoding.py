"""Bytes that are no message are the client's error, and not worth a trace in the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from tidegate.serve.errors import NOT_A_MESSAGE_TEXT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tidegate.serve.calls import Context

_OURS = "/tidegate.v1."


class _Undecodable:
    """Stands for a request that could not be read."""


class DecodingInterceptor(grpc.aio.ServerInterceptor):
    """Answers unary requests that cannot be read with INVALID_ARGUMENT, where gRPC says UNKNOWN."""

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wraps the reading of a request."""
        handler = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None or handler.unary_unary is None or not method.startswith(_OURS):
            return handler
        # The stubs know what a handler of a synchronous server holds.
        ours: Any = handler
        read, answer = ours.request_deserializer, ours.unary_unary

        def read_or_mark(data: bytes) -> object:
            try:
                return read(data)
            except DecodeError:
                return _Undecodable()

        async def answer_or_refuse(request: object, context: Context) -> object:
            if isinstance(request, _Undecodable):
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, NOT_A_MESSAGE_TEXT)
            return await answer(request, context)

        return grpc.unary_unary_rpc_method_handler(
            answer_or_refuse,
            request_deserializer=read_or_mark,
            response_serializer=handler.response_serializer,
        )
