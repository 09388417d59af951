"""The client's side of a forecast stream, without I/O.

Each operation is a generator of steps: it yields what is to be done (`Connect`,
`Send`, `Receive`, `Wait`), gets the result sent in, or the error thrown in, and
returns its value. What drives it may block or await: the rules of resuming are
here, once.

Legend: F features, A forecasts.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from tidegate.client.errors import (
    AbortedError,
    AlreadyExistsError,
    ClientError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
    from_series,
)
from tidegate.client.frames import is_frame, rows_of
from tidegate.client.series import Series
from tidegate.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from tidegate.client.backoff import Retry
    from tidegate.v1 import model_spec_pb2

Request = pb.StreamForecastRequest
Response = pb.StreamForecastResponse
T = TypeVar("T")

# Bytes of tokens or rows in one message, far below any server's limit.
_MESSAGE_BYTES = 2**20


class Connect(NamedTuple):
    """Gives up the call there is, and begins one with the server of this index."""

    target: int


class Send(NamedTuple):
    """Sends a message; one that is lost shows when the answer is received."""

    request: Request


class Receive(NamedTuple):
    """Waits for a message."""


class Wait(NamedTuple):
    """Lets time pass."""

    seconds: float


Step: TypeAlias = Connect | Send | Receive | Wait
Steps: TypeAlias = Generator[Step, Any, T]


class Answer(NamedTuple):
    """The answer to one message: forecasts by series, and what was refused."""

    forecasts: dict[str, NDArray[np.float32]]
    errors: list[ClientError]


class Protocol:
    """Live series, and how to go on with them when the server is gone.

    Attributes:
        model: "name/version" of the model that runs.
        series: Live series by key.
        dropped: Series whose kept state a server had to drop, and where they were.

    Args:
        model: Which model.
        spec: What it says about its forecasts.
        targets: How many servers there are to choose from.
        retry: When to try again.
        checkpoint_every: Observations between checkpoints; 0: nothing is resumed.
        every_step: Whether each row is answered.
    """

    def __init__(
        self,
        model: pb.ModelReference,
        spec: model_spec_pb2.ForecastSpec,
        targets: int,
        retry: Retry,
        *,
        checkpoint_every: int,
        every_step: bool,
    ) -> None:
        self.model = ""
        self.series: dict[str, Series] = {}
        self.dropped: dict[str, int] = {}
        self.spec = spec
        self._reference = model
        self._features = [feature.name for feature in spec.features]
        self._shape = (spec.horizon, len(spec.targets), len(spec.quantile_levels))
        self._targets = targets
        self._target = 0
        self._retry = retry
        self._checkpoint_every = checkpoint_every
        self._every_step = every_step
        self._by_handle: dict[int, Series] = {}
        self._refused: dict[str, ClientError] = {}
        self._connected = False
        self._leaving = False

    def open(
        self,
        series: Iterable[str] | Mapping[str, bytes],
        *,
        take_over: bool = False,
        reset: bool = False,
    ) -> Steps[None]:
        """Starts series on the first server that takes them."""
        for attempt in range(self._targets):
            try:
                yield Connect(self._target)
                self._connected = True
                yield from self._start(series, take_over=take_over, reset=reset)
            except (UnavailableError, ResourceExhaustedError):
                self._connected = False
                self.series.clear()
                if attempt + 1 == self._targets:
                    raise
                self._next_target()
            else:
                return

    def start(
        self,
        series: Iterable[str] | Mapping[str, bytes],
        *,
        take_over: bool = False,
        reset: bool = False,
    ) -> Steps[None]:
        """Starts more series; raises for the first that is refused, the others are started."""
        yield from self._resuming(lambda: self._start(series, take_over=take_over, reset=reset))

    def exchange(self, chunks: Mapping[str, ArrayLike]) -> Steps[Answer]:
        """Sends a chunk for each of some series, and collects what they are answered."""
        todo = {key: self.rows(key, rows) for key, rows in chunks.items()}
        for key in todo:
            self.find(key)
        answer = Answer({}, [])
        yield from self._resuming(lambda: self._exchange(todo, answer))
        return answer

    def checkpoint(self, keys: Sequence[str]) -> Steps[dict[str, bytes]]:
        """Asks for tokens of some series."""

        def ask() -> Steps[dict[str, bytes]]:
            series = [self.find(key) for key in keys]
            handles = [one.handle for one in series]
            yield Send(Request(checkpoint=pb.CheckpointRequest(handles=handles)))
            waiting = set(handles)
            while waiting:
                response, errors = yield from self._receive_until("checkpoints")
                for _, error in errors:
                    raise error
                waiting -= {one.handle for one in response.checkpoints.checkpoints}
            return {one.key: one.token for one in series}

        return (yield from self._resuming(ask)) if keys else {}

    def finish(self, keys: Sequence[str]) -> Steps[None]:
        """Frees series on the server."""

        def ask() -> Steps[None]:
            handles = [self.find(key).handle for key in keys]
            yield Send(Request(finish=pb.Finish(handles=handles)))
            _, errors = yield from self._receive_until("finished")
            for key in keys:
                self._forget(key)
            for _, error in errors:
                raise error

        yield from self._resuming(ask)

    def farewell(self, *, keep: bool) -> list[Request]:
        """The last messages of the stream, for an open call."""
        if keep or not self._connected or not self.series:
            return []
        return [Request(finish=pb.Finish())]

    def find(self, key: str) -> Series:
        """A live series.

        Raises:
            NotFoundError: There is none of that key.
            ClientError: Why it could not be resumed.
        """
        if key in self._refused:
            raise self._refused.pop(key)
        if key not in self.series:
            raise NotFoundError(f"series {key!r} is not live in this stream: start it first", key)
        return self.series[key]

    def rows(self, key: str, rows: ArrayLike) -> NDArray[np.float32]:
        """Rows as they are sent, [rows, F].

        Raises:
            InvalidArgumentError: They have another shape.
        """
        if is_frame(rows):
            rows = rows_of(rows, self._features)
        # A copy: it may have to be sent again when the caller's array has changed.
        array = np.array(rows, "<f4")
        if array.ndim == 1 and len(self._features) == 1:
            array = array[:, None]
        if array.ndim != 2 or array.shape[1] != len(self._features) or not len(array):
            raise InvalidArgumentError(
                f"series {key!r}: rows of {len(self._features)} features are expected, the array "
                f"has shape {array.shape}",
                key,
            )
        return array

    def _start(
        self, series: Iterable[str] | Mapping[str, bytes], *, take_over: bool, reset: bool
    ) -> Steps[None]:
        if isinstance(series, str):
            # A string is iterable too, but nobody means its letters.
            series = [series]
        tokens = series if isinstance(series, Mapping) else dict.fromkeys(series, b"")
        starts = [
            pb.SeriesStart(key=key, checkpoint=token, take_over=take_over, reset=reset)
            for key, token in tokens.items()
        ]
        errors = yield from self._send_starts(
            starts, lambda key: self.series.setdefault(key, Series(key, tokens[key]))
        )
        blind = [
            key
            for key in tokens
            if key in self.series and self.series[key].next_offset and not self.series[key].token
        ]
        if blind and self._checkpoint_every:
            # They went on from a state that only this server has.
            handles = [self.series[key].handle for key in blind]
            yield Send(Request(checkpoint=pb.CheckpointRequest(handles=handles)))
            while not all(self.series[key].token for key in blind):
                yield from self._receive_until("checkpoints")
        for error in errors:
            raise error

    def _send_starts(
        self, starts: Sequence[pb.SeriesStart], series_of: Callable[[str], Series]
    ) -> Steps[list[ClientError]]:
        """Starts series in messages of bounded size; returns the refusals."""
        refusals: list[ClientError] = []
        for part in _parts(starts, [len(start.checkpoint) + 64 for start in starts]):
            yield Send(
                Request(
                    start=pb.Start(
                        model=self._reference,
                        series=part,
                        checkpoint_every=self._checkpoint_every,
                        every_step=self._every_step,
                    )
                )
            )
            response, errors = yield from self._receive_until("started")
            refusals += [error for _, error in errors]
            self.model = f"{response.started.model}/{response.started.version}"
            for started in response.started.series:
                series = series_of(started.key)
                if series.handle < 0:
                    series.next_offset = started.next_offset
                if started.dropped_offset:
                    self.dropped[started.key] = started.dropped_offset
                series.handle = started.handle
                self._by_handle[series.handle] = series
        return refusals

    def _exchange(self, todo: dict[str, NDArray[np.float32]], answer: Answer) -> Steps[None]:
        """Removes from `todo` what is answered; may be called again for the rest."""
        for key in [key for key in todo if key in self._refused]:
            answer.errors.append(self._refused.pop(key))
            del todo[key]
        if not todo:
            return
        series_of = {key: self.series[key] for key in todo}
        yield Send(
            _observations({one: (one.next_offset, todo[key]) for key, one in series_of.items()})
        )
        waiting = {
            one.handle: len(todo[key]) if self._every_step else 1 for key, one in series_of.items()
        }
        parts: dict[str, list[NDArray[np.float32]]] = {}
        while waiting:
            response, errors = yield from self._receive_until("forecasts")
            for handle, error in errors:
                if waiting.pop(handle, 0):
                    answer.errors.append(error)
                    todo.pop(error.series, None)
            for series, part in self._forecasts(response.forecasts):
                parts.setdefault(series.key, []).append(part)
                waiting[series.handle] -= len(part)
                if waiting[series.handle] <= 0:
                    del waiting[series.handle]
                    rows = todo.pop(series.key)
                    series.answered(rows, keep=self._checkpoint_every > 0)
                    answer.forecasts[series.key] = np.concatenate(parts.pop(series.key))

    def _forecasts(self, forecasts: pb.Forecasts) -> Iterator[tuple[Series, NDArray[np.float32]]]:
        """The forecasts of one message by series."""
        quantiles = np.frombuffer(forecasts.quantiles, "<f4").reshape(-1, *self._shape)
        handles = np.array(forecasts.handles, np.int64)
        # Those of one series follow each other.
        starts = np.flatnonzero(np.diff(handles, prepend=-1)).tolist()
        for start, end in pairwise([*starts, len(handles)]):
            yield self._by_handle[int(handles[start])], quantiles[start:end]

    def _receive_until(self, kind: str) -> Steps[tuple[Response, list[tuple[int, ClientError]]]]:
        """Reads up to a message of that kind; returns the errors on the way by handle."""
        errors: list[tuple[int, ClientError]] = []
        while True:
            response: Response = yield Receive()
            have = response.WhichOneof("response")
            if have == "error":
                errors.append((response.error.handle, self._series_error(response.error)))
            elif have == "checkpoints":
                self._save(response.checkpoints.checkpoints)
            elif have == "draining":
                self._save(response.draining.checkpoints)
                # With one server there is nowhere to go before it has stopped.
                self._leaving = self._targets > 1 and self._checkpoint_every > 0
            if have == kind:
                return response, errors

    def _series_error(self, error: pb.SeriesError) -> ClientError:
        typed = from_series(error.code, error.message, error.key)
        if isinstance(typed, AbortedError):
            self._forget(error.key)
        return typed

    def _save(self, checkpoints: Iterable[pb.Checkpoint]) -> None:
        for checkpoint in checkpoints:
            if checkpoint.handle in self._by_handle:
                self._by_handle[checkpoint.handle].saved(checkpoint.next_offset, checkpoint.token)

    def _forget(self, key: str) -> None:
        series = self.series.pop(key, None)
        if series is not None:
            self._by_handle.pop(series.handle, None)

    def _resuming(self, operation: Callable[[], Steps[T]]) -> Steps[T]:
        """Does something, anew on another server whenever the one there is gets lost."""
        while True:
            if not self._connected:
                yield from self._resume(UnavailableError("the stream has ended"), attempt=0)
            try:
                result = yield from operation()
            except UnavailableError as error:
                if error.series:
                    raise
                self._connected = False
                yield from self._resume(error, attempt=1)
            except ClientError as error:
                # One that is about the call has ended it.
                self._connected = self._connected and bool(error.series)
                raise
            except BaseException:
                # Half an answer may be left.
                self._connected = False
                raise
            else:
                if self._leaving:
                    yield from self._resume(UnavailableError("the server is stopping"), attempt=0)
                return result

    def _resume(self, error: ClientError, attempt: int) -> Steps[None]:
        """Goes on with all series elsewhere.

        Raises:
            ClientError: Why the last attempt failed.
        """
        retry = self._retry
        if not self._checkpoint_every or not retry.seconds:
            raise error
        deadline = retry.clock() + retry.seconds
        while True:
            self._next_target()
            pause = retry.pause(attempt) if attempt else 0.0
            if retry.clock() + pause > deadline:
                raise error
            if pause:
                yield Wait(pause)
            attempt += 1
            try:
                yield from self._reconnect()
            except (UnavailableError, ResourceExhaustedError, AlreadyExistsError) as again:
                error = again
            else:
                return

    def _next_target(self) -> None:
        self._target = (self._target + 1) % self._targets

    def _reconnect(self) -> Steps[None]:
        yield Connect(self._target)
        self._leaving = False
        self._by_handle.clear()
        for series in self.series.values():
            series.forget_early()
        starts = [series.restart() for series in self.series.values()]
        refusals = yield from self._send_starts(starts, self.series.__getitem__)
        for refusal in refusals:
            if isinstance(refusal, UnavailableError | ResourceExhaustedError | AlreadyExistsError):
                raise refusal
            self._refuse(refusal)
        yield from self._catch_up()
        self._connected = True

    def _catch_up(self) -> Steps[None]:
        """Sends again what the checkpoints do not cover; its answers are here already."""
        sent = {series: series.saved_offset for series in self.series.values()}
        while chunks := self._unsent(sent):
            for part in _parts(chunks, [rows.nbytes for _, rows in chunks]):
                yield from self._send_again(part, sent)
            sent = {one: sent[one] + len(rows) for one, rows in chunks}

    def _unsent(self, sent: Mapping[Series, int]) -> list[tuple[Series, NDArray[np.float32]]]:
        """The next chunk of each series that is live and has one."""
        chunks = [(series, series.chunk_at(offset)) for series, offset in sent.items()]
        return [(one, rows) for one, rows in chunks if rows is not None and one.key in self.series]

    def _send_again(
        self, chunks: Sequence[tuple[Series, NDArray[np.float32]]], sent: Mapping[Series, int]
    ) -> Steps[None]:
        yield Send(_observations({one: (sent[one], rows) for one, rows in chunks}))
        waiting = {one.handle: len(rows) if self._every_step else 1 for one, rows in chunks}
        while waiting:
            response, errors = yield from self._receive_until("forecasts")
            for handle, error in errors:
                if waiting.pop(handle, 0):
                    self._refuse(error)
            for series, part in self._forecasts(response.forecasts):
                waiting[series.handle] -= len(part)
                if waiting[series.handle] <= 0:
                    del waiting[series.handle]

    def _refuse(self, error: ClientError) -> None:
        """Gives a series up that cannot be resumed; who uses it next is told why."""
        self._forget(error.series)
        self._refused[error.series] = error


def _observations(chunks: Mapping[Series, tuple[int, NDArray[np.float32]]]) -> Request:
    """One message of chunks, each with the offset of its first row."""
    counts = [len(rows) for _, rows in chunks.values()]
    return Request(
        observations=pb.Observations(
            handles=[series.handle for series in chunks],
            offsets=[offset for offset, _ in chunks.values()],
            rows=() if max(counts) == 1 else counts,
            values=b"".join([rows.tobytes() for _, rows in chunks.values()]),
        )
    )


def _parts(items: Sequence[T], sizes: Sequence[int]) -> Iterator[Sequence[T]]:
    """Cuts a sequence where a part would get over the size of a message; never none at all."""
    start, total = 0, 0
    for index, size in enumerate(sizes):
        if total and total + size > _MESSAGE_BYTES:
            yield items[start:index]
            start, total = index, 0
        total += size
    yield items[start:]
