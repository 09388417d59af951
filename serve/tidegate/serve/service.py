"""All that the server does, without gRPC: models, their live series, requests."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tidegate.serve.annotate import Annotation, Annotator
from tidegate.serve.batcher import Batcher
from tidegate.serve.checkpoint import CheckpointSigner, load_key
from tidegate.serve.errors import ResourceExhaustedError, UnavailableError
from tidegate.serve.forecast import Window, forecast_windows
from tidegate.serve.repository import Repository
from tidegate.serve.runner import Runner
from tidegate.serve.stats import ServerStats
from tidegate.serve.stream_call import StreamCall
from tidegate.serve.streams import SeriesTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from tidegate.serve.model import Model
    from tidegate.serve.settings import Settings


class Service:
    """Loads the models and answers requests.

    Attributes:
        repository: The models.
        draining: Whether new streams are refused.
        stats: What it has done.

    Args:
        settings: Everything configurable.

    Raises:
        LoadError: A model cannot be served.
        ValueError: The checkpoint key cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.repository = Repository(settings)
        self.stats = ServerStats()
        self.draining = False
        self._signer = CheckpointSigner(load_key(settings.checkpoint_key_file))
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="tidegate-run")
        self._runner = Runner(settings, self._executor)
        self._batchers: dict[Model, tuple[SeriesTable, Batcher]] = {}
        self._annotators: dict[Model, Annotator] = {}
        self._calls: set[StreamCall] = set()
        self._last_number = 0
        self._requests = 0

    @property
    def calls(self) -> tuple[StreamCall, ...]:
        """The open streams."""
        return tuple(self._calls)

    @property
    def is_idle(self) -> bool:
        """Whether no stream is open and no forecast or labels are under way."""
        return not (self._calls or self._requests)

    @property
    def tables(self) -> tuple[SeriesTable, ...]:
        """The series of each model that has been streamed."""
        return tuple(table for table, _ in self._batchers.copy().values())

    async def forecast(self, model: Model, windows: Sequence[Window]) -> NDArray[np.float32]:
        """Forecasts of whole windows, float32 [windows, V]; see `forecast_windows`."""
        with self._one_request():
            return await forecast_windows(model, windows, self._runner, self.settings)

    async def annotate(self, model: Model, sentences: Sequence[Sequence[str]]) -> list[Annotation]:
        """Labels of sentences; see `Annotator.annotate`."""
        model.require_labelling()
        if model not in self._annotators:
            self._annotators[model] = Annotator(model, self._runner, self.settings)
        with self._one_request():
            return await self._annotators[model].annotate(sentences)

    @contextmanager
    def _one_request(self) -> Iterator[None]:
        limit = self.settings.max_requests
        if self._requests >= limit:
            raise ResourceExhaustedError(
                f"{limit} requests are under way (--max-requests): try again, send more in each, "
                "or use another replica",
                retry_seconds=1.0,
            )
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    def open_stream(self) -> StreamCall:
        """Admits a new stream; `close_stream` must follow.

        Raises:
            UnavailableError: The server is draining.
            ResourceExhaustedError: Too many streams.
        """
        if self.draining:
            raise UnavailableError("the server is draining: open the stream on another replica")
        if len(self._calls) >= self.settings.max_streams:
            raise ResourceExhaustedError(
                f"all {self.settings.max_streams} streams of this server are taken "
                "(--max-streams): send more series on one stream, or use another replica",
                retry_seconds=1.0,
            )
        self._last_number += 1
        call = StreamCall(self._last_number, self)
        self._calls.add(call)
        return call

    def is_open(self, call: StreamCall) -> bool:
        """Whether a stream has not ended yet."""
        return call in self._calls

    def close_stream(self, call: StreamCall) -> None:
        """Frees the series of a stream that has ended."""
        self._calls.discard(call)
        call.close()
        self.forget_removed()

    def forget_removed(self) -> None:
        """Frees what is kept of models that are served no more and that no stream uses."""
        removed = {*self._batchers, *self._annotators} - {*self.repository.list()}
        if removed:
            for model in removed - {call.model for call in self._calls}:
                self._batchers.pop(model, None)
                self._annotators.pop(model, None)

    def series(self, model: Model) -> tuple[SeriesTable, Batcher]:
        """The live series of a model and what runs them."""
        if model not in self._batchers:
            table = SeriesTable(model, self.settings, self._signer)
            self._batchers[model] = (table, Batcher(table, self.settings, self._executor))
        return self._batchers[model]

    def close(self) -> None:
        """Ends the worker thread."""
        self._executor.shutdown()
