"""One call of StreamForecast after the other: what is sent, and what the answers mean.

Legend: F features, A forecasts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tidegate.client.errors import (
    AbortedError,
    ClientError,
    NotFoundError,
    SupersededError,
    from_series,
)
from tidegate.client.messages import (
    features_of,
    forecasts_by_handle,
    observations,
    parts,
    rows_as_sent,
)
from tidegate.client.series import Series
from tidegate.client.steps import Receive, Request, Response, Send, Steps
from tidegate.client.superseding import Superseded
from tidegate.v1 import inference_pb2 as pb
from tidegate.v1 import model_spec_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray


class Conversation:
    """Live series by key, and the messages about them.

    Attributes:
        version: Version of the model that runs; empty: the one that is asked for.
        spec: What it says about its forecasts.
        series: Live series by key.
        refused: Series that could not be resumed, and why; who uses one next is told.
        dropped: Series whose kept state a server had to drop, and where they were.
        is_leaving: Whether the server has said that it is about to stop.
        is_superseded: Whether the server asks to restart on another version.

    Args:
        model: Which model.
        checkpoint_every: Observations between checkpoints; 0: nothing is resumed.
        every_step: Whether each row is answered.
        history: Rows of each series to keep for a restart on another version.
    """

    def __init__(
        self,
        model: pb.ModelReference,
        *,
        checkpoint_every: int,
        every_step: bool,
        history: int,
    ) -> None:
        self.version = ""
        self.spec = model_spec_pb2.ForecastSpec()
        self.series: dict[str, Series] = {}
        self.refused: dict[str, ClientError] = {}
        self.dropped: dict[str, int] = {}
        self.is_leaving = False
        self.is_superseded = False
        self._reference = model
        self._checkpoint_every = checkpoint_every
        self._every_step = every_step
        self._history = history
        self._by_handle: dict[int, Series] = {}

    @property
    def model(self) -> str:
        """Name and version of the model that runs: "name/version"."""
        return f"{self._reference.name}/{self.version}"

    def begin(self) -> None:
        """A new call is open: nothing is known of the handles of the one before."""
        self.is_leaving = self.is_superseded = False
        self._by_handle.clear()
        for series in self.series.values():
            series.forget_early()

    def find(self, key: str) -> Series:
        """A live series.

        Raises:
            NotFoundError: There is none of that key.
            ClientError: Why it could not be resumed.
        """
        if key in self.refused:
            raise self.refused.pop(key)
        if key not in self.series:
            raise NotFoundError(f"series {key!r} is not live in this stream: start it first", key)
        return self.series[key]

    def refuse(self, error: ClientError) -> None:
        """Gives a series up that cannot be resumed."""
        self._forget(error.series)
        self.refused[error.series] = error

    def _series_of(self, key: str, token: bytes) -> Series:
        """A live series, or a new one."""
        return self.series.setdefault(key, Series(key, token, self._history))

    def look_ahead(self) -> Steps[pb.Started]:
        """Asks on a new call which version is served by now; changes nothing here."""
        yield Send(Request(start=pb.Start(model=self._reference)))
        while True:
            response: Response = yield Receive()
            if response.HasField("started"):
                return response.started

    def superseded_by(self, successor: pb.Started) -> Superseded:
        """What the caller is told of a restart on another version."""
        none = np.empty((0, len(self.spec.features)), np.float32)
        return Superseded(
            self.model,
            f"{successor.model}/{successor.version}",
            {key: one.next_offset for key, one in self.series.items()},
            {key: np.concatenate([none, *one.history()]) for key, one in self.series.items()},
            features_of(self.spec),
            features_of(successor.forecast),
        )

    def begin_anew(self, successor: pb.Started, histories: Mapping[str, ArrayLike]) -> None:
        """Forgets the states: the next ones are of another version, which reads these rows first.

        Raises:
            InvalidArgumentError: Rows have another shape.
        """
        features = features_of(successor.forecast)
        rows = {
            key: rows_as_sent(key, histories[key], features)
            for key in self.series
            if key in histories and len(np.asarray(histories[key]))
        }
        none = np.empty((0, len(features)), np.float32)
        for key, series in self.series.items():
            series.begin_anew(rows.get(key, none))
        self.version, self.spec = successor.version, successor.forecast

    def start(self, starts: Sequence[pb.SeriesStart]) -> Steps[list[ClientError]]:
        """Starts series in messages of bounded size; returns the refusals.

        Raises:
            SupersededError: The server does not have the version that the states are of.
        """
        refusals: list[ClientError] = []
        tokens = {start.key: start.checkpoint for start in starts}
        for part in parts(starts, [len(start.checkpoint) + 64 for start in starts]):
            start = pb.Start(
                model=self._reference,
                series=part,
                checkpoint_every=self._checkpoint_every,
                every_step=self._every_step,
                version=self.version,
            )
            yield Send(Request(start=start))
            response, errors = yield from self._receive_until("started")
            refusals += [error for _, error in errors]
            self._take_version(response.started)
            for started in response.started.series:
                series = self._series_of(started.key, tokens[started.key])
                if series.handle < 0:
                    series.begin(started.next_offset)
                if started.dropped_offset:
                    self.dropped[started.key] = started.dropped_offset
                series.handle = started.handle
                self._by_handle[series.handle] = series
        return refusals

    def observe(
        self,
        chunks: Mapping[Series, tuple[int, NDArray[np.float32]]],
        answered: Callable[[Series, NDArray[np.float32]], None],
        refused: Callable[[ClientError], None],
    ) -> Steps[None]:
        """Sends chunks in one message, and says of each what became of it.

        Args:
            chunks: Of each series the offset of its first row, and its rows [rows, F].
            answered: Gets a series and its forecasts, float32 [A, horizon, targets, quantiles].
            refused: Gets the reason.
        """
        yield Send(Request(observations=observations(chunks)))
        waiting = {
            series.handle: len(rows) if self._every_step else 1
            for series, (_, rows) in chunks.items()
        }
        spec = self.spec
        shape = (spec.horizon, len(spec.targets), len(spec.quantile_levels))
        collected: dict[int, list[NDArray[np.float32]]] = {}
        while waiting:
            response, errors = yield from self._receive_until("forecasts")
            for handle, error in errors:
                if waiting.pop(handle, 0):
                    refused(error)
            for handle, part in forecasts_by_handle(response.forecasts, shape):
                collected.setdefault(handle, []).append(part)
                waiting[handle] -= len(part)
                if waiting[handle] <= 0:
                    del waiting[handle]
                    answered(self._by_handle[handle], np.concatenate(collected.pop(handle)))

    def checkpoint(self, series: Sequence[Series]) -> Steps[None]:
        """Asks for tokens of some series, and waits until they are here."""
        waiting = {one.handle for one in series}
        yield Send(Request(checkpoint=pb.CheckpointRequest(handles=sorted(waiting))))
        while waiting:
            response, errors = yield from self._receive_until("checkpoints")
            for _, error in errors:
                raise error
            waiting -= {one.handle for one in response.checkpoints.checkpoints}

    def finish(self, series: Sequence[Series]) -> Steps[None]:
        """Frees series on the server."""
        yield Send(Request(finish=pb.Finish(handles=[one.handle for one in series])))
        _, errors = yield from self._receive_until("finished")
        for one in series:
            self._forget(one.key)
        for _, error in errors:
            raise error

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
                self.is_leaving = True
            elif have == "superseded":
                # Without a successor there is nothing to restart on: it goes on to the end.
                self.is_superseded = bool(response.superseded.version)
            if have == kind:
                return response, errors

    def _take_version(self, started: pb.Started) -> None:
        if self.version not in ("", started.version):
            self.is_superseded = True
            raise SupersededError(
                f"the server has no version {self.version} of model {started.model!r} any more, "
                f"but {started.version}: open the stream again and start its series anew"
            )
        self.version = started.version
        if started.HasField("forecast"):
            self.spec = started.forecast

    def _series_error(self, error: pb.SeriesError) -> ClientError:
        typed = from_series(error)
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
