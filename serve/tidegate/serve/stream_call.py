"""One StreamForecast call: its messages in, the answers out, without gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.serve.batch import Failure
from tidegate.serve.entries import Chunks
from tidegate.serve.errors import (
    Code,
    FailedPreconditionError,
    InvalidArgumentError,
    OffsetGapError,
    ServingError,
)
from tidegate.serve.opening import Opening
from tidegate.serve.starting import Wish, start_series
from tidegate.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tidegate.serve.batch import Outcome
    from tidegate.serve.batcher import Batcher
    from tidegate.serve.model import Model
    from tidegate.serve.service import Service
    from tidegate.serve.streams import SeriesTable

Response = pb.StreamForecastResponse

# Room for a message's other fields below the size limit.
_OVERHEAD_BYTES = 1024
# An answer's handle and offset in the message, at most.
_ANSWER_BYTES = 5 + 10


def ignore(_: Response) -> None:
    """For streams that are told nothing that they have not asked for."""


class StreamCall:
    """The state of one call: its number, model and series.

    Every `observations` is answered by an error for each refused chunk, then by
    the checkpoints that are due, then by one `forecasts`: several only where the
    size limit needs it, an empty one when there is nothing new.

    Attributes:
        number: Unique among the calls of this process, above 0.

    Args:
        number: See above.
        service: Where models and series are.
        identity: Who opened it; its series are theirs alone.
        notify: Takes what the client is told without having asked.
    """

    def __init__(
        self,
        number: int,
        service: Service,
        identity: str = "",
        notify: Callable[[Response], None] = ignore,
    ) -> None:
        self.number = number
        self._service = service
        self._identity = identity
        self._notify = notify
        self._lost: dict[int, tuple[str, ServingError]] = {}
        self._model: Model | None = None
        self._reference = pb.ModelReference()
        self._table: SeriesTable
        self._batcher: Batcher
        # Bytes of one observation and of one forecast; forecasts in one message.
        self._row_size = self._answer_size = self._most_answers = 1

    @property
    def model(self) -> Model | None:
        """The model that the call runs; none before the first `start`."""
        return self._model

    @property
    def reference(self) -> pb.ModelReference:
        """The model as the first `start` named it."""
        return self._reference

    async def handle(self, request: pb.StreamForecastRequest) -> list[Response]:
        """Answers one message.

        Raises:
            ServingError: The call cannot go on. What concerns one series is
                answered by a SeriesError instead.
        """
        kind = request.WhichOneof("request")
        if kind == "observations" and self._model is not None:
            refused, chunks = self._read(request.observations)
            return refused or self._answers(await self._batcher.submit(chunks))
        if kind == "start":
            return await self._start(request.start)
        if self._model is None:
            raise FailedPreconditionError(
                f"the first message is {kind or 'empty'}: send `start` with a model first"
            )
        if kind == "checkpoint":
            return self._checkpoint(request.checkpoint.handles)
        if kind == "finish":
            return self._finish(request.finish.handles)
        raise InvalidArgumentError(
            "the message is empty: send start, observations, checkpoint or finish"
        )

    def draining(self, seconds: float) -> list[Response]:
        """The notice that the server is about to stop, with all checkpoints."""
        *first, last = self._checkpoint_messages(self._own()) if self._model else [pb.Checkpoints()]
        notice = pb.Draining(seconds=seconds, checkpoints=last.checkpoints)
        return [*(Response(checkpoints=part) for part in first), Response(draining=notice)]

    def checkpoints(self) -> list[Response]:
        """Checkpoints of all series, for a stream that is ended without having asked."""
        if self._model is None:
            return []
        return [Response(checkpoints=part) for part in self._checkpoint_messages(self._own())]

    def lose(self, handle: int, key: str, error: ServingError) -> None:
        """Tells the client of a series that is not its own any more."""
        self._lost[handle] = key, error
        self._notify(series_error(key, handle, error))

    def close(self) -> None:
        """Leaves the series of the call to the next one of its identity."""
        if self._model is not None:
            self._table.detach(self.number)

    async def _start(self, start: pb.Start) -> list[Response]:
        model, is_first = self._model_of(start), self._model is None
        if self._model is None:
            model.require_forecasting()
            self._table, self._batcher = self._service.series(model)
            self._measure(model)
            self._model = model
            self._reference.CopyFrom(start.model)
            if start.version:
                self._service.on_resumed()
        elif model is not self._model:
            raise FailedPreconditionError(
                f"this stream runs {self._model.label} and was asked to start {model.label}: "
                "open another stream for it"
            )
        wishes = [Wish(self._opening(start, series), series.checkpoint) for series in start.series]
        results = await start_series(wishes, self._table, self._service.signer)
        started = pb.Started(model=model.name, version=model.version)
        if is_first:
            started.forecast.CopyFrom(model.spec.forecast)
        errors = []
        for (opening, _), result in zip(wishes, results, strict=True):
            if isinstance(result, ServingError):
                errors.append(series_error(opening.key, 0, result))
                continue
            handle, offset, dropped = result
            self._lost.pop(handle, None)
            started.series.add(
                key=opening.key, handle=handle, next_offset=offset, dropped_offset=dropped
            )
        return [*errors, Response(started=started)]

    def _model_of(self, start: pb.Start) -> Model:
        """The version that a stream goes on with if it is still there, else what is asked for."""
        running, repository, wanted = self._model, self._service.repository, start.model
        if running and (running.name, running.version) == (wanted.name, start.version):
            return running
        return repository.find(wanted.name, start.version) or repository.get(
            wanted.name, version=wanted.version, alias=wanted.alias
        )

    def _opening(self, start: pb.Start, series: pb.SeriesStart) -> Opening:
        return Opening(
            self.number,
            self._identity,
            series.key,
            series.take_over,
            series.reset,
            start.checkpoint_every,
            start.every_step,
            series.first_offset,
        )

    def _measure(self, model: Model) -> None:
        self._row_size, self._answer_size = 4 * model.features, 4 * model.forecast_size
        room = self._service.settings.max_message_bytes - _OVERHEAD_BYTES
        self._most_answers = max(1, room // (self._answer_size + _ANSWER_BYTES))

    def _read(self, message: pb.Observations) -> tuple[list[Response], Chunks]:
        """The whole answer to a message that is malformed, else none, and its chunks."""
        # Lists of Python are read ten times faster than those of protobuf, and several times.
        handles, offsets, rows = message.handles[:], message.offsets[:], message.rows[:]
        chunks = Chunks(self.number, handles, offsets, rows, message.values)
        problem = self._malformed(handles, offsets, rows, chunks.values)
        if not problem:
            return [], chunks
        error = InvalidArgumentError(problem)
        if not handles:
            raise error
        refused = [series_error(self._key(handle), handle, error) for handle in handles]
        return [*refused, Response(forecasts=pb.Forecasts())], chunks

    def _answers(self, outcome: Outcome) -> list[Response]:
        if not (outcome.failures or outcome.due) and len(outcome.handles) <= self._most_answers:
            return [_forecasts(outcome.handles, outcome.offsets, outcome.quantiles)]
        responses = [self._failure(failure) for failure in outcome.failures]
        if outcome.due:
            due = [handle for handle in outcome.due if self._table.owns(self.number, handle)]
            responses.extend(Response(checkpoints=part) for part in self._checkpoint_messages(due))
        responses.extend(self._forecasts(outcome))
        return responses

    def _malformed(
        self, handles: Sequence[int], offsets: Sequence[int], rows: Sequence[int], values: bytes
    ) -> str:
        """What is wrong with the shape of a message; empty when nothing is."""
        chunks = len(handles)
        if len(offsets) != chunks or len(rows) not in (0, chunks):
            return (
                f"observations have {chunks} handles, {len(offsets)} offsets and "
                f"{len(rows)} rows: send one of each for every chunk"
            )
        total = sum(rows) if rows else chunks
        want = total * self._row_size
        if len(values) != want:
            return (
                f"values has {len(values)} bytes; {total} rows of {self._table.model.features} "
                f"features are {want} bytes of float32"
            )
        return ""

    def _forecasts(self, outcome: Outcome) -> Iterator[Response]:
        """The forecasts in messages within the size limit; one empty message without any."""
        step, size = self._most_answers, self._answer_size
        for start in range(0, max(len(outcome.handles), 1), step):
            end = start + step
            yield _forecasts(
                outcome.handles[start:end],
                outcome.offsets[start:end],
                outcome.quantiles[start * size : end * size],
            )

    def _failure(self, failure: Failure) -> Response:
        """Why a chunk was refused; for a series that was lost, how."""
        key, handle, error = failure
        if not key and handle in self._lost:
            key, error = self._lost[handle]
        return series_error(key, handle, error)

    def _checkpoint(self, handles: Sequence[int]) -> list[Response]:
        own = [handle for handle in handles if self._table.owns(self.number, handle)]
        parts = self._checkpoint_messages(own if handles else self._own())
        return [*self._unknown(handles), *(Response(checkpoints=part) for part in parts)]

    def _checkpoint_messages(self, handles: Sequence[int]) -> Iterator[pb.Checkpoints]:
        """Checkpoints in messages within the size limit; one empty message when there are none."""
        room = self._service.settings.max_message_bytes - _OVERHEAD_BYTES
        part, size = pb.Checkpoints(), 0
        for handle, offset, token in self._table.checkpoints(handles):
            if part.checkpoints and size + len(token) + _ANSWER_BYTES > room:
                yield part
                part, size = pb.Checkpoints(), 0
            part.checkpoints.add(handle=handle, next_offset=offset, token=token)
            # Tags and lengths of the fields are the rest.
            size += len(token) + 2 * _ANSWER_BYTES
        yield part

    def _finish(self, handles: Sequence[int]) -> list[Response]:
        errors = self._unknown(handles)
        ended = self._table.finish(self.number, handles or self._own())
        return [*errors, Response(finished=pb.Finished(handles=ended))]

    def _own(self) -> list[int]:
        return self._table.owned_by(self.number)

    def _unknown(self, handles: Sequence[int]) -> list[Response]:
        return [
            self._failure(Failure("", handle, self._table.unknown(handle)))
            for handle in handles
            if not self._table.owns(self.number, handle)
        ]

    def _key(self, handle: int) -> str:
        return self._table.key(handle) if self._table.owns(self.number, handle) else ""


def series_error(key: str, handle: int, error: ServingError) -> Response:
    """An error of one series as a message."""
    expected = error.expected_offset if isinstance(error, OffsetGapError) else 0
    return Response(
        error=pb.SeriesError(
            key=key,
            handle=handle,
            code=Code(error.code),
            message=str(error),
            expected_offset=expected,
            retry_seconds=error.retry_seconds or 0.0,
        )
    )


def _forecasts(handles: Sequence[int], offsets: Sequence[int], quantiles: bytes) -> Response:
    # Filled in place: a constructor would fill a message of its own and copy it.
    response = Response()
    forecasts = response.forecasts
    # Also where there is none: `forecasts` is what the message is.
    forecasts.SetInParent()
    forecasts.handles.extend(handles)
    forecasts.offsets.extend(offsets)
    forecasts.quantiles = quantiles
    return response
