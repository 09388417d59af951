"""The health service, whose watchers do not hold up the end of the server."""

# gRPC fixes the name of the method.
# ruff: noqa: N802

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from grpc_health.v1 import health

if TYPE_CHECKING:
    from grpc_health.v1 import health_pb2

    from tidegate.serve.calls import Context


class HealthServicer(health.aio.HealthServicer):
    """`grpc.health.v1.Health` with an end to `Watch`.

    A watcher never hangs up by itself, and gRPC waits for every call before it
    stops. Ending its own calls is left to the service: a second `stop` with a
    shorter grace beside the first one crashes grpcio 1.85.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ended = asyncio.Event()

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:
        """Sends the status at each change, until the client or the server ends."""
        watch = asyncio.ensure_future(super().Watch(request, context))
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({watch, ended}, return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                await watch
        finally:
            watch.cancel()
            ended.cancel()
            await asyncio.gather(watch, ended, return_exceptions=True)

    def end_watches(self) -> None:
        """Ends every `Watch`; the last status was sent when it changed."""
        self._ended.set()
