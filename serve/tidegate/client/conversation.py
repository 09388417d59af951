"""One call of StreamForecast after the other: what is sent, and what the answers mean.

Legend: F features, A forecasts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tidegate.client.errors import AbortedError, ClientError, NotFoundError, from_series
from tidegate.client.messages import forecasts_by_handle, observations, parts
from tidegate.client.series import Series
from tidegate.client.steps import Receive, Request, Response, Send, Steps
from tidegate.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from tidegate.v1 import model_spec_pb2


class Conversation:
    """Live series by key, and the messages about them.

    Attributes:
        model: "name/version" of the model that runs.
        series: Live series by key.
        refused: Series that could not be resumed, and why; who uses one next is told.
        dropped: Series whose kept state a server had to drop, and where they were.
        is_leaving: Whether the server has said that it is about to stop.

    Args:
        model: Which model.
        spec: What it says about its forecasts.
        checkpoint_every: Observations between checkpoints; 0: nothing is resumed.
        every_step: Whether each row is answered.
    """

    def __init__(
        self,
        model: pb.ModelReference,
        spec: model_spec_pb2.ForecastSpec,
        *,
        checkpoint_every: int,
        every_step: bool,
    ) -> None:
        self.model = ""
        self.series: dict[str, Series] = {}
        self.refused: dict[str, ClientError] = {}
        self.dropped: dict[str, int] = {}
        self.is_leaving = False
        self._reference = model
        self._shape = (spec.horizon, len(spec.targets), len(spec.quantile_levels))
        self._checkpoint_every = checkpoint_every
        self._every_step = every_step
        self._by_handle: dict[int, Series] = {}

    def begin(self) -> None:
        """A new call is open: nothing is known of the handles of the one before."""
        self.is_leaving = False
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

    def start(
        self, starts: Sequence[pb.SeriesStart], series_of: Callable[[str], Series]
    ) -> Steps[list[ClientError]]:
        """Starts series in messages of bounded size; returns the refusals."""
        refusals: list[ClientError] = []
        for part in parts(starts, [len(start.checkpoint) + 64 for start in starts]):
            start = pb.Start(
                model=self._reference,
                series=part,
                checkpoint_every=self._checkpoint_every,
                every_step=self._every_step,
            )
            yield Send(Request(start=start))
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
        collected: dict[int, list[NDArray[np.float32]]] = {}
        while waiting:
            response, errors = yield from self._receive_until("forecasts")
            for handle, error in errors:
                if waiting.pop(handle, 0):
                    refused(error)
            for handle, part in forecasts_by_handle(response.forecasts, self._shape):
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
