"""The client: one object for all calls."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self, TypeVar

import grpc

from tidegate.client import requests
from tidegate.client.asking import ask
from tidegate.client.backoff import Retry
from tidegate.client.channel import PLAIN, Security, open_channel
from tidegate.client.driving import drive
from tidegate.client.errors import from_rpc
from tidegate.client.frames import chunks_of, to_frame
from tidegate.client.protocol import Protocol
from tidegate.client.steps import Wait
from tidegate.client.stream import ForecastStream
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
    from tidegate.client.superseding import OnSuperseded
    from tidegate.v1 import model_spec_pb2

# Rows since the last checkpoint that a stream keeps and would send again.
CHECKPOINT_EVERY = 64
# Rows of a series that a stream keeps for a new version of its model.
HISTORY = 64

Request = TypeVar("Request")
Response = TypeVar("Response")


class Client:
    """Connections to one or more servers with the same models; use as a context manager.

    A model is named `"name"`, `"name/version"` or `"name@alias"`; the bare name
    is its highest version.

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
        self._channels = [open_channel(one, security) for one in requests.targets_of(target)]
        self._stubs = [pb_grpc.InferenceServiceStub(channel) for channel in self._channels]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections and every stream on them."""
        for channel in self._channels:
            channel.close()

    def list_models(self) -> list[ModelInfo]:
        """All models and versions on the server."""
        response = self._ask(lambda stub: stub.ListModels, pb.ListModelsRequest())
        return [requests.info_of(info) for info in response.models]

    def get_model(self, model: str) -> model_spec_pb2.ModelSpec:
        """What a model says about itself: features, horizon, quantile levels, labels, metrics.

        Raises:
            NotFoundError: There is no such model.
        """
        request = pb.GetModelRequest(model=requests.reference(model))
        response = self._ask(lambda stub: stub.GetModel, request)
        return response.spec

    def forecast(self, model: str, windows: Sequence[ArrayLike]) -> NDArray[np.float32]:
        """The forecast after the last row of each window; nothing is kept on the server.

        Args:
            model: A forecasting model.
            windows: Arrays [rows, features], or [rows] for a model of one feature,
                or pandas DataFrames with a column for each feature; their lengths
                may differ.

        Returns:
            float32 [windows, horizon, targets, quantiles].

        Raises:
            ClientError: The server's reason.
        """
        spec = self.get_model(model).forecast
        request = requests.forecast_request(model, windows, spec)
        return requests.forecasts_of(self._ask(lambda stub: stub.Forecast, request), spec)

    def forecast_frame(
        self, model: str, frame: pd.DataFrame, key: str = "unique_id"
    ) -> pd.DataFrame:
        """The forecast after the last row of each series of a long pandas frame.

        Args:
            model: A forecasting model.
            frame: A row for each observation, in order; a column for each feature.
            key: The column that names the series.

        Returns:
            `key`, "step" ahead, "target", and a column for each quantile.
        """
        spec = self.get_model(model).forecast
        chunks = chunks_of(frame, [feature.name for feature in spec.features], key)
        forecasts = self.forecast(model, list(chunks.values()))
        return to_frame(dict(zip(chunks, forecasts, strict=True)), spec, key)

    def annotate(self, model: str, sentences: Iterable[Sequence[str]]) -> list[Annotation]:
        """Labels of tokens, of sentences or of both; any number of sentences, in several requests.

        Args:
            model: A labelling model.
            sentences: Tokens of each sentence.

        Raises:
            ClientError: The server's reason.
        """
        annotations: list[Annotation] = []
        for request in requests.annotation_requests(model, sentences):
            response = self._ask(lambda stub: stub.AnnotateSentences, request)
            annotations += requests.annotations_of(response)
        return annotations

    def stream(
        self,
        model: str,
        series: Iterable[str] | Mapping[str, bytes] = (),
        *,
        checkpoint_every: int = CHECKPOINT_EVERY,
        every_step: bool = False,
        take_over: bool = False,
        reset: bool = False,
        history: int = HISTORY,
        on_superseded: OnSuperseded | None = replay_history,
    ) -> ForecastStream:
        """Starts series and forecasts along them.

        A series without a checkpoint goes on where the server kept its state,
        and at offset 0 where it kept none.

        Args:
            model: A causal forecasting model.
            series: Key or keys of the series; a mapping gives each its checkpoint
                to go on from (empty bytes: none).
            checkpoint_every: Receive a checkpoint of a series after this many of
                its observations. That many rows are kept, to send them again
                when the server is lost. 0: the stream ends with its server.
            every_step: Return a forecast for every row of a chunk, not only its last.
            take_over: Take the series from other streams of ours that hold them.
            reset: Begin at offset 0, whatever the server has kept.
            history: Last rows of each series that the stream keeps for a restart on
                a new version of the model: the more it reads, the less it forgets.
            on_superseded: What happens when the server asks for that restart, within
                `--drain-seconds`. The function is told of the versions, the offsets
                and the history of the series, and returns for each the rows before
                its offset that the new version reads first, as arrays or DataFrames;
                those left out begin with none. The default returns the history. What
                the function raises is raised by the operation that was asked for,
                and the stream stays on its version. None: the stream stays until
                the server ends it, then raises SupersededError.

        Raises:
            ClientError: The server's reason.
        """
        protocol = Protocol(
            requests.reference(model),
            Targets(len(self._stubs), self._retry),
            checkpoint_every=checkpoint_every,
            every_step=every_step,
            history=history,
            on_superseded=on_superseded,
        )
        return ForecastStream(protocol, self._stubs, series, take_over=take_over, reset=reset)

    def _ask(
        self,
        method: Callable[
            [pb_grpc.InferenceServiceStub], grpc.UnaryUnaryMultiCallable[Request, Response]
        ],
        request: Request,
    ) -> Response:
        def perform(step: Ask | Wait) -> object:
            if isinstance(step, Wait):
                time.sleep(step.seconds)
                return None
            call = method(self._stubs[step.target])
            try:
                return call(request, timeout=self._timeout)
            except grpc.RpcError as error:
                raise from_rpc(error) from error

        response: Response = drive(ask(Targets(len(self._stubs), self._retry)), perform)
        return response
