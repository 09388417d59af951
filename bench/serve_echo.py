"""A grpc.aio server that reads and writes the same messages as tidegate-serve and does nothing.

What is left of a stream's cost without a model, series or promises: the ceiling
of any server in Python on this gRPC.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc.aio

from serve_shape import HORIZON, QUANTILES
from tidegate.v1 import inference_pb2 as pb

FORECAST_BYTES = 4 * HORIZON * len(QUANTILES)


async def echo(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    """Answers with the handles and offsets it got, and zeros, until the client ends."""
    while (request := await context.read()) is not grpc.aio.EOF:
        await context.write(_answer(request))


def _answer(request: pb.StreamForecastRequest) -> pb.StreamForecastResponse:
    if request.WhichOneof("request") == "start":
        keys = [series.key for series in request.start.series]
        series = [pb.SeriesStarted(key=key, handle=i) for i, key in enumerate(keys)]
        return pb.StreamForecastResponse(started=pb.Started(series=series))
    message = request.observations
    return pb.StreamForecastResponse(
        forecasts=pb.Forecasts(
            handles=message.handles,
            offsets=message.offsets,
            quantiles=bytes(FORECAST_BYTES * len(message.handles)),
        )
    )


async def main() -> None:
    """Serves on a free port, which it prints, until it is killed."""
    limit = 16 * 2**20
    options = [(f"grpc.max_{way}_message_length", limit) for way in ("receive", "send")]
    server = grpc.aio.server(options=options)
    handler = grpc.stream_stream_rpc_method_handler(
        echo, pb.StreamForecastRequest.FromString, pb.StreamForecastResponse.SerializeToString
    )
    service = "tidegate.v1.InferenceService"
    handlers = {"StreamForecast": handler}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"listening on 127.0.0.1:{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
