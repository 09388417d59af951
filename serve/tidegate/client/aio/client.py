"""The client, awaited: one object for all calls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self, TypeVar

import grpc
import grpc.aio

from tidegate.client import requests
from tidegate.client.aio.stream import ForecastStream
from tidegate.client.asking import ask
from tidegate.client.backoff import Retry
from tidegate.client.channel import OPTIONS, PLAIN, Security
from tidegate.client.client import CHECKPOINT_EVERY, HISTORY
from tidegate.client.driving import drive_async
from tidegate.client.errors import from_rpc
from tidegate.client.frames import chunks_of, to_frame
from tidegate.client.protocol import Protocol
from tidegate.client.steps import Wait
from tidegate.client.superseding import replay_history
from tidegate.client.targets import Targets
from tidegate.v1 import inference_pb2 as pb
from tidegate.v1 import inference_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy as np
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from tidegate.client.asking import Ask
    from tidegate.client.requests import Annotation, ModelInfo
    from tidegate.client.superseding import AsyncOnSuperseded
    from tidegate.v1 import model_spec_pb2

Request = TypeVar("Request")
Response = TypeVar("Response")


class Client:
    """Connections to one or more servers; see `tidegate.client.Client`.

    Args:
        target: "HOST:PORT", or several: replicas, tried in this order.
        timeout: Seconds that one attempt of a call may take; a stream may take for ever.
        security: TLS and the token; by default neither.
        retry: When a stream that lost its server tries again, and a call that was refused with
            a delay; a call that reached nobody is made once more. With `seconds` 0 none is.

    Raises:
        OSError: A file of certificates cannot be read.
    """

    def __init__(
        self,
        target: str | Sequence[str],
        *,
        timeout: float = 30.0,
        security: Security = PLAIN,
        retry: Retry = Retry(),
    ) -> None:
        self._timeout = timeout
        self._retry = retry
        self._metadata = security.metadata
        credentials = security.credentials()
        self._channels = [
            grpc.aio.secure_channel(one, credentials, OPTIONS)
            if credentials
            else grpc.aio.insecure_channel(one, OPTIONS)
            for one in requests.targets_of(target)
        ]
        self._stubs = [pb_grpc.InferenceServiceStub(channel) for channel in self._channels]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections and every stream on them."""
        for channel in self._channels:
            await channel.close()

    async def list_models(self) -> list[ModelInfo]:
        """All models and versions on the server."""
        response = await self._ask(lambda stub: stub.ListModels, pb.ListModelsRequest())
        return [requests.info_of(info) for info in response.models]

    async def get_model(self, model: str) -> model_spec_pb2.ModelSpec:
        """What a model says about itself: features, horizon, quantile levels, labels, metrics."""
        request = pb.GetModelRequest(model=requests.reference(model))
        response = await self._ask(lambda stub: stub.GetModel, request)
        return response.spec

    async def forecast(self, model: str, windows: Sequence[ArrayLike]) -> NDArray[np.float32]:
        """The forecast after each window; float32 [windows, horizon, targets, quantiles]."""
        spec = (await self.get_model(model)).forecast
        request = requests.forecast_request(model, windows, spec)
        return requests.forecasts_of(await self._ask(lambda stub: stub.Forecast, request), spec)

    async def forecast_frame(
        self, model: str, frame: pd.DataFrame, key: str = "unique_id"
    ) -> pd.DataFrame:
        """The forecast after the last row of each series of a long pandas frame."""
        spec = (await self.get_model(model)).forecast
        chunks = chunks_of(frame, [feature.name for feature in spec.features], key)
        forecasts = await self.forecast(model, list(chunks.values()))
        return to_frame(dict(zip(chunks, forecasts, strict=True)), spec, key)

    async def annotate(self, model: str, sentences: Iterable[Sequence[str]]) -> list[Annotation]:
        """Labels of tokens, of sentences or of both; any number of sentences."""
        annotations: list[Annotation] = []
        for request in requests.annotation_requests(model, sentences):
            response = await self._ask(lambda stub: stub.AnnotateSentences, request)
            annotations += requests.annotations_of(response)
        return annotations

    async def stream(
        self,
        model: str,
        series: Iterable[str] | Mapping[str, bytes] = (),
        *,
        checkpoint_every: int = CHECKPOINT_EVERY,
        every_step: bool = False,
        take_over: bool = False,
        reset: bool = False,
        history: int = HISTORY,
        on_superseded: AsyncOnSuperseded | None = replay_history,
    ) -> ForecastStream:
        """Starts series and forecasts along them; see `tidegate.client.Client.stream`.

        `on_superseded` may be a function to be awaited.
        """
        protocol = Protocol(
            requests.reference(model),
            Targets(len(self._stubs), self._retry),
            checkpoint_every=checkpoint_every,
            every_step=every_step,
            history=history,
            on_superseded=on_superseded,
        )
        stream = ForecastStream(protocol, self._stubs, self._metadata)
        await stream.open(series, take_over=take_over, reset=reset)
        return stream

    async def _ask(
        self,
        method: Callable[
            [pb_grpc.InferenceServiceAsyncStub], grpc.aio.UnaryUnaryMultiCallable[Request, Response]
        ],
        request: Request,
    ) -> Response:
        async def perform(step: Ask | Wait) -> object:
            if isinstance(step, Wait):
                await asyncio.sleep(step.seconds)
                return None
            call = method(self._stubs[step.target])
            try:
                return await call(request, timeout=self._timeout, metadata=self._metadata)
            except grpc.RpcError as error:
                raise from_rpc(error) from error

        response: Response = await drive_async(ask(Targets(len(self._stubs), self._retry)), perform)
        return response
