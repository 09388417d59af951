"""Forecasts along live series, one call for any number of them.

Legend: F features, A forecasts.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc
import numpy as np

from tidegate.client.driving import drive
from tidegate.client.errors import UnavailableError, from_rpc
from tidegate.client.frames import chunks_of, to_frame
from tidegate.client.steps import Connect, Consult, Receive, Request, Send, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from tidegate.client.protocol import Answer, Protocol
    from tidegate.client.steps import Response, Step, Steps
    from tidegate.v1 import inference_pb2_grpc as pb_grpc
    from tidegate.v1.model_spec_pb2 import ForecastSpec

T = TypeVar("T")


class ForecastStream:
    """Live series on a server; made by `Client.stream`, used as a context manager.

    When the server is gone, or says that it is about to stop, the stream goes on
    with another one or with the same one when it is back: from the last
    checkpoints, with the rows since then, which it keeps. No observation counts
    twice and no forecast is missing or other than without the interruption.

    When the server asks it to restart on a new version of the model, the series
    begin anew there, at the offsets where they are, after as much of their
    history as the stream keeps; see `on_superseded` of `Client.stream`.

    One operation runs at a time; several threads may share a stream.
    """

    def __init__(
        self,
        protocol: Protocol,
        stubs: Sequence[pb_grpc.InferenceServiceStub],
        series: Iterable[str] | Mapping[str, bytes],
        *,
        take_over: bool,
        reset: bool,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._protocol = protocol
        self._stubs = stubs
        self._sleep = sleep
        self._lock = threading.Lock()
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._call: Any = None
        try:
            self._do(protocol.open(series, take_over=take_over, reset=reset))
        except BaseException:
            self.close(keep=True)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(keep=kind is not None)

    @property
    def model(self) -> str:
        """Name and version of the model that runs: "name/version"."""
        return self._protocol.model

    @property
    def spec(self) -> ForecastSpec:
        """What this version says about its forecasts: features, targets, quantile levels."""
        return self._protocol.spec

    @property
    def series(self) -> tuple[str, ...]:
        """Keys of the live series, in the order in which they were started."""
        return tuple(self._protocol.series)

    @property
    def dropped(self) -> Mapping[str, int]:
        """Series that began anew since the server had to drop their state, and where it was."""
        return self._protocol.dropped

    @property
    def checkpoints(self) -> dict[str, bytes]:
        """The newest checkpoint of each series that has one, without asking the server."""
        series = self._protocol.series.values()
        return {one.key: one.token for one in series if one.token}

    def start(
        self,
        series: Iterable[str] | Mapping[str, bytes],
        *,
        take_over: bool = False,
        reset: bool = False,
    ) -> None:
        """Starts more series; see `Client.stream`.

        Raises:
            ClientError: The reason for the first series that was refused; the
                others are started.
        """
        self._do(self._protocol.start(series, take_over=take_over, reset=reset))

    def next_offset(self, key: str) -> int:
        """How many observations of a series are answered; the next one has this index."""
        return self._protocol.find(key).next_offset

    def step(self, key: str, row: ArrayLike) -> NDArray[np.float32]:
        """Applies one observation, [F] or a number, and returns the forecast that follows it.

        Returns:
            float32 [horizon, targets, quantiles].

        Raises:
            ClientError: The server's reason; the observation was not applied.
        """
        return self.step_many({key: row})[key]

    def step_many(self, rows: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float32]]:
        """Applies one observation of each of several series, in one message.

        Raises:
            ClientError: The reason for the first series that was refused; its
                `forecasts` are those of the others.
        """
        answer = self.send_many(as_rows(rows))
        return {key: forecasts[-1] for key, forecasts in answer.items()}

    def send(self, key: str, rows: ArrayLike) -> NDArray[np.float32]:
        """Applies several observations of a series, [rows, F] or [rows] for one feature.

        Returns:
            float32 [A, horizon, targets, quantiles]: the forecast after the last
            row, or with `every_step` after each row.

        Raises:
            ClientError: The server's reason; no row was applied.
        """
        return self.send_many({key: rows})[key]

    def send_many(self, chunks: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float32]]:
        """Applies several observations of each of several series, in one message.

        Args:
            chunks: For each series an array as in `send`, or a pandas DataFrame
                with a column for each feature.

        Raises:
            ClientError: The reason for the first series that was refused; its
                `forecasts` are those of the others.
        """
        return forecasts_or_error(self._do(self._protocol.exchange(chunks)))

    def map(
        self, chunks: Iterable[Mapping[str, ArrayLike]]
    ) -> Iterator[dict[str, NDArray[np.float32]]]:
        """The answers to one message after the other, as `send_many` gives them.

        The iterator is not interrupted by servers that go: it pauses.
        """
        for message in chunks:
            yield self.send_many(message)

    def send_frame(self, frame: pd.DataFrame, key: str = "unique_id") -> pd.DataFrame:
        """Applies the rows of a long pandas frame, of any number of series.

        Args:
            frame: A row for each observation, in order; a column for each feature.
            key: The column that names the series.

        Returns:
            The forecast after the last row of each series: `key`, "step" ahead,
            "target", and a column for each quantile, such as "q0.5".
        """
        chunks = chunks_of(frame, [f.name for f in self._protocol.spec.features], key)
        forecasts = {name: answer[-1] for name, answer in self.send_many(chunks).items()}
        return to_frame(forecasts, self._protocol.spec, key)

    def checkpoint(self, key: str) -> bytes:
        """A token from which any replica with the same key file goes on."""
        return self._do(self._protocol.checkpoint([key]))[key]

    def checkpoint_all(self) -> dict[str, bytes]:
        """Tokens of all live series."""
        return self._do(self._protocol.checkpoint(self.series))

    def finish(self, key: str) -> None:
        """Ends a series and frees its place on the server."""
        self._do(self._protocol.finish([key]))

    def close(self, *, keep: bool = False) -> None:
        """Ends the stream; its series are finished, or with `keep` kept for a while.

        What is kept can be started again without a checkpoint and goes on at its
        next offset. A `with` block that ends in an exception keeps.
        """
        for request in self._protocol.farewell(keep=keep):
            self._requests.put(request)
        self._requests.put(None)
        try:
            for _ in self._call or ():
                pass
        except grpc.RpcError:
            # It has ended already; whoever waited for an answer was told why.
            return

    def _do(self, steps: Steps[T]) -> T:
        """Does what an operation of the protocol asks for, and returns its value."""
        with self._lock:
            return drive(steps, self._perform)

    def _perform(self, step: Step) -> object:
        match step:
            case Connect(target):
                self._connect(target)
            case Send(request):
                self._requests.put(request)
            case Receive():
                return self._receive()
            case Consult(function, argument):
                return function(argument)
            case Wait(seconds):
                self._sleep(seconds)
        return None

    def _connect(self, target: int) -> None:
        self._requests.put(None)
        if self._call is not None:
            self._call.cancel()
        self._requests = queue.SimpleQueue()
        # The stubs know no iterator that ends with a sentinel.
        requests = iter(self._requests.get, None)
        self._call = self._stubs[target].StreamForecast(requests)

    def _receive(self) -> Response:
        try:
            response: Response = next(self._call)
        except StopIteration:
            raise UnavailableError("the stream has ended: open another one") from None
        except grpc.RpcError as error:
            raise from_rpc(error) from error
        return response


def as_rows(rows: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
    """One observation of each series as a chunk of one row."""
    return {key: np.reshape(row, (1, -1)) for key, row in rows.items()}


def forecasts_or_error(answer: Answer) -> dict[str, NDArray[np.float32]]:
    """The forecasts of a message, or the first error, which holds them too."""
    if answer.errors:
        error = answer.errors[0]
        error.forecasts = answer.forecasts
        raise error
    return answer.forecasts
