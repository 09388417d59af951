"""Forecasts along live series, one call for any number of them.

Legend: S series of one message, F features, A forecasts.
"""

from __future__ import annotations

import queue
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Self

import grpc
import numpy as np

from tidegate.client.errors import (
    ClientError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
    from_rpc,
    from_series,
)
from tidegate.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from tidegate.v1 import inference_pb2_grpc as pb_grpc
    from tidegate.v1 import model_spec_pb2

Request = pb.StreamForecastRequest


class _Series:
    """What the client knows of a live series."""

    __slots__ = ("handle", "key", "next_offset")

    def __init__(self, key: str, handle: int, next_offset: int) -> None:
        self.key = key
        self.handle = handle
        self.next_offset = next_offset


class _Answer(NamedTuple):
    """The answer to one message: forecasts by series, and what was refused."""

    forecasts: dict[str, NDArray[np.float32]]
    errors: list[ClientError]


class ForecastStream:
    """Live series on a server; made by `Client.stream`, used as a context manager.

    Not for several threads at once.

    Attributes:
        model: "name/version" of the model that runs.
        draining: Whether the server has said that it is about to stop: take
            `checkpoints` and go on from them elsewhere.
        checkpoints: The newest checkpoint received for each series: those sent
            because of `checkpoint_every`, on request, or by a draining server.
    """

    def __init__(
        self,
        stub: pb_grpc.InferenceServiceStub,
        model: pb.ModelReference,
        spec: model_spec_pb2.ForecastSpec,
        series: Iterable[str] | Mapping[str, bytes],
        *,
        checkpoint_every: int,
        every_step: bool,
    ) -> None:
        self._reference = model
        self._features = len(spec.features)
        self._shape = (spec.horizon, len(spec.targets), len(spec.quantile_levels))
        self._checkpoint_every = checkpoint_every
        self._every_step = every_step
        self._series: dict[str, _Series] = {}
        self._by_handle: dict[int, _Series] = {}
        self.model = ""
        self.draining = False
        self.checkpoints: dict[str, bytes] = {}
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._call = stub.StreamForecast(iter(self._requests.get, None))
        try:
            self.start(series)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def series(self) -> tuple[str, ...]:
        """Keys of the live series, in the order in which they were started."""
        return tuple(self._series)

    def start(self, series: Iterable[str] | Mapping[str, bytes]) -> None:
        """Starts more series; see `Client.stream`.

        Raises:
            ClientError: The reason for the first series that was refused; the
                others are started.
        """
        if isinstance(series, str):
            # A string is iterable too, but nobody means its letters.
            series = [series]
        tokens = series if isinstance(series, Mapping) else dict.fromkeys(series, b"")
        starts = [pb.SeriesStart(key=key, checkpoint=token) for key, token in tokens.items()]
        self._requests.put(
            Request(
                start=pb.Start(
                    model=self._reference,
                    series=starts,
                    checkpoint_every=self._checkpoint_every,
                    every_step=self._every_step,
                )
            )
        )
        response, errors = self._receive_until("started")
        self.model = f"{response.started.model}/{response.started.version}"
        for started in response.started.series:
            known = _Series(started.key, started.handle, started.next_offset)
            self._series[known.key] = self._by_handle[known.handle] = known
        for _, error in errors:
            raise error

    def next_offset(self, key: str) -> int:
        """How many observations of a series the server has; the next one has this index."""
        return self._find(key).next_offset

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
        answer = self.send_many({key: np.reshape(row, (1, -1)) for key, row in rows.items()})
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

        Raises:
            ClientError: The reason for the first series that was refused; its
                `forecasts` are those of the others.
        """
        series = [self._find(key) for key in chunks]
        arrays = [self._rows(key, rows) for key, rows in chunks.items()]
        answer = self._exchange(series, [len(array) for array in arrays], arrays)
        if answer.errors:
            error = answer.errors[0]
            error.forecasts = answer.forecasts
            raise error
        return answer.forecasts

    def checkpoint(self, key: str) -> bytes:
        """A token from which any replica with the same key file goes on."""
        handle = self._find(key).handle
        self._ask(Request(checkpoint=pb.CheckpointRequest(handles=[handle])), "checkpoints")
        return self.checkpoints[key]

    def checkpoint_all(self) -> dict[str, bytes]:
        """Tokens of all live series."""
        if self._series:
            self._ask(Request(checkpoint=pb.CheckpointRequest()), "checkpoints")
        return {key: self.checkpoints[key] for key in self._series}

    def wait_for_draining(self) -> None:
        """Waits until the server says that it is about to stop; `checkpoints` are complete then.

        Raises:
            UnavailableError: The stream ended without that notice.
        """
        while not self.draining:
            self._handle(self._receive())

    def finish(self, key: str) -> None:
        """Ends a series and frees its place on the server."""
        series = self._find(key)
        self._ask(Request(finish=pb.Finish(handles=[series.handle])), "finished")
        del self._series[key], self._by_handle[series.handle]

    def close(self) -> None:
        """Ends the stream and all its series."""
        self._requests.put(None)
        try:
            for _ in self._call:
                pass
        except grpc.RpcError:
            # It has ended already; whoever waited for an answer was told why.
            return

    def _find(self, key: str) -> _Series:
        if key not in self._series:
            raise NotFoundError(f"series {key!r} is not live in this stream: start it first", key)
        return self._series[key]

    def _rows(self, key: str, rows: ArrayLike) -> NDArray[np.float32]:
        array = np.asarray(rows, "<f4")
        if array.ndim == 1 and self._features == 1:
            array = array[:, None]
        if array.ndim != 2 or array.shape[1] != self._features or not len(array):
            raise InvalidArgumentError(
                f"series {key!r}: rows of {self._features} features are expected, the array has "
                f"shape {array.shape}",
                key,
            )
        return array

    def _exchange(
        self, series: Sequence[_Series], rows: list[int], arrays: Iterable[NDArray[np.float32]]
    ) -> _Answer:
        self._requests.put(
            Request(
                observations=pb.Observations(
                    handles=[one.handle for one in series],
                    offsets=[one.next_offset for one in series],
                    rows=() if max(rows, default=1) == 1 else rows,
                    values=b"".join(array.tobytes() for array in arrays),
                )
            )
        )
        waiting = {
            one.handle: count if self._every_step else 1
            for one, count in zip(series, rows, strict=True)
        }
        answer = _Answer({}, [])
        while waiting:
            response, errors = self._receive_until("forecasts")
            for handle, error in errors:
                waiting.pop(handle, None)
                answer.errors.append(error)
            for handle, count in self._collect(response.forecasts, answer.forecasts):
                waiting[handle] -= count
                if waiting[handle] <= 0:
                    del waiting[handle]
        for one, count in zip(series, rows, strict=True):
            if one.key in answer.forecasts:
                one.next_offset += count
        return answer

    def _collect(
        self, forecasts: pb.Forecasts, into: dict[str, NDArray[np.float32]]
    ) -> Iterator[tuple[int, int]]:
        """Sorts the forecasts of one message by series; yields handles and their counts."""
        quantiles = np.frombuffer(forecasts.quantiles, "<f4").reshape(-1, *self._shape)
        handles = np.array(forecasts.handles, np.int64)
        # Those of one series follow each other.
        starts = np.flatnonzero(np.diff(handles, prepend=-1)).tolist()
        for start, end in pairwise([*starts, len(handles)]):
            handle = int(handles[start])
            key = self._by_handle[handle].key
            part = quantiles[start:end]
            into[key] = np.concatenate([into[key], part]) if key in into else part
            yield handle, end - start

    def _ask(self, request: Request, kind: str) -> None:
        self._requests.put(request)
        _, errors = self._receive_until(kind)
        for _, error in errors:
            raise error

    def _receive_until(
        self, kind: str
    ) -> tuple[pb.StreamForecastResponse, list[tuple[int, ClientError]]]:
        """Reads up to a message of that kind, and returns the errors on the way by handle."""
        errors = []
        while True:
            response = self._receive()
            self._handle(response)
            have = response.WhichOneof("response")
            if have == "error":
                error = response.error
                typed = from_series(error.code, error.message, error.key)
                errors.append((error.handle, typed))
            if have == kind:
                return response, errors

    def _handle(self, response: pb.StreamForecastResponse) -> None:
        """Keeps what may come at any time."""
        kind = response.WhichOneof("response")
        if kind == "checkpoints":
            self._keep(response.checkpoints.checkpoints)
        elif kind == "draining":
            self.draining = True
            self._keep(response.draining.checkpoints)

    def _receive(self) -> pb.StreamForecastResponse:
        try:
            return next(self._call)
        except StopIteration:
            raise UnavailableError("the stream has ended: open another one") from None
        except grpc.RpcError as error:
            raise from_rpc(error) from error

    def _keep(self, checkpoints: Iterable[pb.Checkpoint]) -> None:
        for checkpoint in checkpoints:
            self.checkpoints[self._by_handle[checkpoint.handle].key] = checkpoint.token
