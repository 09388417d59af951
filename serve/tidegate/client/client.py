"""The client: one object for all calls to one server."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

import grpc
import numpy as np

from tidegate.client.channel import PLAIN, Security, open_channel
from tidegate.client.errors import from_rpc
from tidegate.client.stream import ForecastStream
from tidegate.v1 import inference_pb2 as pb
from tidegate.v1 import inference_pb2_grpc as pb_grpc
from tidegate.v1 import model_spec_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class ModelInfo:
    """One version of a model on the server.

    Attributes:
        name: The model's name.
        version: Its version.
        aliases: Other names of this version, such as "champion".
        task: "forecasting", "labelling" or "recurrent".
        direction: "causal" or "bidirectional".
        sha256: Hexadecimal digest of the ONNX file.
        provider: ONNX Runtime's name of what runs it.
    """

    name: str
    version: str
    aliases: tuple[str, ...]
    task: str
    direction: str
    sha256: str
    provider: str


class Annotation(NamedTuple):
    """The labels of one sentence and the probability of each."""

    labels: list[str]
    probabilities: list[float]


class Client:
    """A connection to a server; use as a context manager.

    A model is named `"name"`, `"name/version"` or `"name@alias"`; the bare name
    is its highest version.

    Args:
        target: "HOST:PORT".
        timeout: Seconds that a call may take; a stream may take for ever.
        security: TLS and the token; by default neither.

    Raises:
        OSError: A file of certificates cannot be read.
    """

    def __init__(self, target: str, *, timeout: float = 30.0, security: Security = PLAIN) -> None:
        self._timeout = timeout
        self._channel = open_channel(target, security)
        self._stub = pb_grpc.InferenceServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection and every stream on it."""
        self._channel.close()

    def list_models(self) -> list[ModelInfo]:
        """All models and versions on the server."""
        with _typed_errors():
            response = self._stub.ListModels(pb.ListModelsRequest(), timeout=self._timeout)
        return [_info(info) for info in response.models]

    def get_model(self, model: str) -> model_spec_pb2.ModelSpec:
        """What a model says about itself: features, horizon, quantile levels, labels, metrics.

        Raises:
            NotFoundError: There is no such model.
        """
        with _typed_errors():
            request = pb.GetModelRequest(model=reference(model))
            return self._stub.GetModel(request, timeout=self._timeout).spec

    def forecast(self, model: str, windows: Sequence[ArrayLike]) -> NDArray[np.float32]:
        """The forecast after the last row of each window; nothing is kept on the server.

        Args:
            model: A forecasting model.
            windows: Arrays [rows, features], or [rows] for a model of one feature;
                their lengths may differ.

        Returns:
            float32 [windows, horizon, targets, quantiles].

        Raises:
            ClientError: The server's reason.
        """
        arrays = [_window(window) for window in windows]
        request = pb.ForecastRequest(
            model=reference(model),
            windows=[pb.Window(rows=len(array), values=array.tobytes()) for array in arrays],
        )
        with _typed_errors():
            spec = self.get_model(model).forecast
            response = self._stub.Forecast(request, timeout=self._timeout)
        flat = np.frombuffer(response.quantiles, "<f4")
        shape = (spec.horizon, len(spec.targets), len(spec.quantile_levels))
        return flat.reshape(len(arrays), *shape)

    def annotate(self, model: str, sentences: Iterable[Sequence[str]]) -> list[Annotation]:
        """A label for each token of each sentence.

        Args:
            model: A labelling model.
            sentences: Tokens of each sentence.

        Raises:
            ClientError: The server's reason.
        """
        request = pb.AnnotateSentencesRequest(
            model=reference(model),
            sentences=[pb.Sentence(tokens=sentence) for sentence in sentences],
        )
        with _typed_errors():
            response = self._stub.AnnotateSentences(request, timeout=self._timeout)
        return [Annotation(list(a.labels), list(a.probabilities)) for a in response.annotations]

    def stream(
        self,
        model: str,
        series: Iterable[str] | Mapping[str, bytes] = (),
        *,
        checkpoint_every: int = 0,
        every_step: bool = False,
    ) -> ForecastStream:
        """Starts series and forecasts along them.

        Args:
            model: A causal forecasting model.
            series: Key or keys of the series; a mapping gives each its checkpoint
                to go on from (empty bytes: from the start).
            checkpoint_every: Receive a checkpoint of a series after this many of
                its observations; 0: only on request.
            every_step: Return a forecast for every row of a chunk, not only its last.

        Raises:
            ClientError: The server's reason.
        """
        with _typed_errors():
            spec = self.get_model(model).forecast
        return ForecastStream(
            self._stub,
            reference(model),
            spec,
            series,
            checkpoint_every=checkpoint_every,
            every_step=every_step,
        )


def reference(model: str) -> pb.ModelReference:
    """Parses `name`, `name/version` or `name@alias`."""
    name, at, alias = model.partition("@")
    if at:
        return pb.ModelReference(name=name, alias=alias)
    name, slash, version = model.partition("/")
    return pb.ModelReference(name=name, version=version) if slash else pb.ModelReference(name=name)


@contextmanager
def _typed_errors() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc(error) from error


def _window(values: ArrayLike) -> NDArray[np.float32]:
    array = np.asarray(values, "<f4")
    return array[:, None] if array.ndim == 1 else array


def _info(info: pb.ModelInfo) -> ModelInfo:
    task = model_spec_pb2.Task.Name(info.task)
    direction = model_spec_pb2.Direction.Name(info.direction)
    return ModelInfo(
        info.name,
        info.version,
        tuple(info.aliases),
        task.removeprefix("TASK_").lower(),
        direction.removeprefix("DIRECTION_").lower(),
        info.sha256,
        info.provider,
    )
