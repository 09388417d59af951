"""One StreamForecast call: its messages in, the answers out, without gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.serve.entries import Chunks
from tidegate.serve.errors import (
    Code,
    FailedPreconditionError,
    InvalidArgumentError,
    OffsetGapError,
    ServingError,
)
from tidegate.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

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


class StreamCall:
    """The state of one call: its number, model and series.

    Every `observations` is answered by an error for each refused chunk, then by
    the checkpoints that are due, then by one `forecasts`: several only where the
    size limit needs it, an empty one when there is nothing new.

    Args:
        number: Unique among the calls of this process, above 0.
        service: Where models and series are.
    """

    def __init__(self, number: int, service: Service) -> None:
        self._number = number
        self._service = service
        self._model: Model | None = None
        self._reference = pb.ModelReference()
        self._table: SeriesTable
        self._batcher: Batcher

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
            return await self._observe(request.observations)
        if kind == "start":
            return self._start(request.start)
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

    def draining(self, seconds: float) -> Response:
        """The notice that the server is about to stop, with all checkpoints."""
        checkpoints = self._checkpoints() if self._model else []
        return Response(draining=pb.Draining(seconds=seconds, checkpoints=checkpoints))

    def close(self) -> None:
        """Ends all series of the call."""
        if self._model is not None:
            self._batcher.end(self._number, self._table.owned_by(self._number))

    def _start(self, start: pb.Start) -> list[Response]:
        reference = start.model
        model = self._service.repository.get(
            reference.name, version=reference.version, alias=reference.alias
        )
        if self._model is None:
            model.require_forecasting()
            self._table, self._batcher = self._service.series(model)
            self._model = model
            self._reference.CopyFrom(reference)
        elif model is not self._model:
            raise FailedPreconditionError(
                f"this stream runs {self._model.label} and was asked to start {model.label}: "
                "open another stream for it"
            )
        started = pb.Started(model=model.name, version=model.version)
        errors = []
        for series in start.series:
            try:
                handle = self._table.start(
                    self._number,
                    series.key,
                    series.checkpoint,
                    checkpoint_every=start.checkpoint_every,
                    every_step=start.every_step,
                )
            except ServingError as error:
                errors.append(series_error(series.key, 0, error))
            else:
                offset = int(self._table.next_offset[handle])
                started.series.add(key=series.key, handle=handle, next_offset=offset)
        return [*errors, Response(started=started)]

    async def _observe(self, message: pb.Observations) -> list[Response]:
        handles = message.handles
        problem = self._malformed(message)
        if problem:
            error = InvalidArgumentError(problem)
            if not handles:
                raise error
            refused = [series_error(self._key(handle), handle, error) for handle in handles]
            return [*refused, Response(forecasts=pb.Forecasts())]
        outcome = await self._batcher.submit(
            Chunks(self._number, handles, message.offsets, message.rows, message.values)
        )
        responses = [series_error(f.key, f.handle, f.error) for f in outcome.failures]
        if outcome.due:
            checkpoints = self._checkpoints(outcome.due)
            responses.append(Response(checkpoints=pb.Checkpoints(checkpoints=checkpoints)))
        responses.extend(self._forecasts(outcome))
        return responses

    def _malformed(self, message: pb.Observations) -> str:
        """What is wrong with the shape of a message; empty when nothing is."""
        chunks = len(message.handles)
        if len(message.offsets) != chunks or len(message.rows) not in (0, chunks):
            return (
                f"observations have {chunks} handles, {len(message.offsets)} offsets and "
                f"{len(message.rows)} rows: send one of each for every chunk"
            )
        features = self._table.model.features
        rows = sum(message.rows) if message.rows else chunks
        want = 4 * rows * features
        if len(message.values) != want:
            return (
                f"values has {len(message.values)} bytes; {rows} rows of {features} features "
                f"are {want} bytes of float32"
            )
        return ""

    def _forecasts(self, outcome: Outcome) -> Iterator[Response]:
        handles, offsets, quantiles = outcome.handles, outcome.offsets, outcome.quantiles
        room = self._service.settings.max_message_bytes - _OVERHEAD_BYTES
        step = max(1, room // (4 * self._table.model.forecast_size + _ANSWER_BYTES))
        for start in range(0, max(len(handles), 1), step):
            part = slice(start, start + step)
            yield _forecasts(handles[part], offsets[part], quantiles[part])

    def _checkpoint(self, handles: Sequence[int]) -> list[Response]:
        errors = self._unknown(handles)
        own = [handle for handle in handles if self._table.owns(self._number, handle)]
        checkpoints = [] if handles and not own else self._checkpoints(own)
        return [*errors, Response(checkpoints=pb.Checkpoints(checkpoints=checkpoints))]

    def _checkpoints(self, handles: Sequence[int] = ()) -> list[pb.Checkpoint]:
        made = self._table.checkpoints(handles or self._table.owned_by(self._number))
        return [pb.Checkpoint(handle=h, next_offset=offset, token=t) for h, offset, t in made]

    def _finish(self, handles: Sequence[int]) -> list[Response]:
        errors = self._unknown(handles)
        ended = self._batcher.end(self._number, handles)
        return [*errors, Response(finished=pb.Finished(handles=ended))]

    def _unknown(self, handles: Sequence[int]) -> list[Response]:
        return [
            series_error("", handle, self._table.unknown(handle))
            for handle in handles
            if not self._table.owns(self._number, handle)
        ]

    def _key(self, handle: int) -> str:
        return self._table.key(handle) if self._table.owns(self._number, handle) else ""


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


def _forecasts(
    handles: Sequence[int], offsets: Sequence[int], quantiles: NDArray[np.float32]
) -> Response:
    return Response(
        forecasts=pb.Forecasts(handles=handles, offsets=offsets, quantiles=quantiles.tobytes())
    )
