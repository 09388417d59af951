"""All that the server does, without gRPC: models, their live series, requests."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tidegate.serve.annotate import Annotation, Annotator
from tidegate.serve.batcher import Batcher
from tidegate.serve.checkpoint import CheckpointSigner, load_keys
from tidegate.serve.errors import FailedPreconditionError, ResourceExhaustedError, UnavailableError
from tidegate.serve.forecast import Window, forecast_windows
from tidegate.serve.live_series import LiveSeries
from tidegate.serve.repository import Repository
from tidegate.serve.runner import Runner
from tidegate.serve.stats import ServerStats
from tidegate.serve.store import open_store
from tidegate.serve.store.write_behind import WriteBehind
from tidegate.serve.stream_call import StreamCall, ignore
from tidegate.serve.streams import SeriesTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from tidegate.serve.errors import ServingError
    from tidegate.serve.model import Model
    from tidegate.serve.settings import Settings
    from tidegate.serve.store.write_behind import StoreStatus
    from tidegate.v1 import inference_pb2 as pb

logger = logging.getLogger(__name__)


class Service:
    """Loads the models and answers requests.

    Attributes:
        repository: The models.
        draining: Whether new streams are refused.
        stats: What it has done.
        signer: Makes and opens checkpoint tokens.
        journal: Writes states to the state store; None without one.
        on_store: Is told when the state store goes and when it is back.
        on_resumed: Is told that a stream goes on with a version that may be replaced already.
        on_closed: Is told of each stream that has ended.

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
        keys = load_keys(settings)
        self.signer = CheckpointSigner(keys, settings.checkpoint_max_age_seconds)
        store = open_store(settings)
        self.journal = WriteBehind(store, settings.max_series, self._tell_store) if store else None
        self.on_store: Callable[[bool], None] = lambda _: None
        self.on_resumed: Callable[[], None] = lambda: None
        self.on_closed: Callable[[StreamCall], None] = lambda _: None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="tidegate-run")
        self._long_executor = ThreadPoolExecutor(1, thread_name_prefix="tidegate-long")
        self._runner = Runner(settings, self._long_executor)
        self._batchers: dict[Model, tuple[SeriesTable, Batcher]] = {}
        self._annotators: dict[Model, Annotator] = {}
        self._live = LiveSeries(settings)
        self._calls: dict[int, StreamCall] = {}
        self._last_number = 0
        self._requests = 0
        self._drop_timer: asyncio.TimerHandle | None = None

    @property
    def calls(self) -> tuple[StreamCall, ...]:
        """The open streams."""
        return tuple(self._calls.values())

    @property
    def is_idle(self) -> bool:
        """Whether no stream is open and no forecast or labels are under way."""
        return not (self._calls or self._requests)

    @property
    def tables(self) -> tuple[SeriesTable, ...]:
        """The series of each model that has been streamed."""
        return tuple(table for table, _ in self._batchers.copy().values())

    async def forecast(
        self, model: Model, windows: Sequence[Window], connection: str = ""
    ) -> NDArray[np.float32]:
        """Forecasts of whole windows, float32 [windows, V]; see `forecast_windows`."""
        with self._one_request():
            return await forecast_windows(model, windows, self._runner, self.settings, connection)

    async def annotate(
        self, model: Model, sentences: Sequence[Sequence[str]], connection: str = ""
    ) -> list[Annotation]:
        """Labels of sentences; see `Annotator.annotate`."""
        model.require_labelling()
        if model not in self._annotators:
            self._annotators[model] = Annotator(model, self._runner, self.settings)
        with self._one_request():
            return await self._annotators[model].annotate(sentences, connection)

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

    @property
    def store_status(self) -> StoreStatus | None:
        """How the state store does; None without one."""
        return self.journal.status if self.journal else None

    def start(self) -> None:
        """Begins to write to the state store, on the running event loop."""
        if self.journal is not None:
            self.journal.start()

    def open_stream(
        self,
        identity: str = "",
        notify: Callable[[pb.StreamForecastResponse], None] = ignore,
        connection: str = "",
    ) -> StreamCall:
        """Admits a new stream; `close_stream` must follow.

        Args:
            identity: Who opens it: its series are theirs alone. Empty for
                clients that are not told apart.
            notify: Takes what the stream is told without having asked.
            connection: Names the connection that it came over; empty: its limits do not count.

        Raises:
            UnavailableError: The server is draining.
            FailedPreconditionError: There are other workers, and no store of states.
            ResourceExhaustedError: Too many streams.
        """
        if self.draining:
            raise UnavailableError("the server is draining: open the stream on another replica")
        if self.settings.workers > 1 and self.journal is None:
            raise FailedPreconditionError(
                f"the {self.settings.workers} workers of this server (--workers) share no states, "
                "and the next connection may reach another one: serve streams with --state-store "
                "redis://..., or with one worker"
            )
        if len(self._calls) >= self.settings.max_streams:
            raise ResourceExhaustedError(
                f"all {self.settings.max_streams} streams of this server are taken "
                "(--max-streams): send more series on one stream, or use another replica",
                retry_seconds=1.0,
            )
        self._last_number += 1
        call = StreamCall(self._last_number, self, identity, notify)
        self._calls[call.number] = call
        self._live.open(call.number, connection)
        return call

    def close_stream(self, call: StreamCall) -> None:
        """Keeps the series of a stream that has ended, for a while."""
        del self._calls[call.number]
        call.close()
        self._live.close(call.number)
        self.on_closed(call)
        self._drop_expired()
        self.forget_removed()

    def forget_removed(self) -> None:
        """Frees what is kept of models that are served no more and that no stream uses."""
        removed = {*self._batchers, *self._annotators} - {*self.repository.list()}
        if removed:
            for model in removed - {call.model for call in self._calls.values()}:
                if model in self._batchers and self.journal is not None:
                    self.journal.detach(self._batchers[model][0])
                self._batchers.pop(model, None)
                self._annotators.pop(model, None)

    def series(self, model: Model) -> tuple[SeriesTable, Batcher]:
        """The series of a model and what runs them."""
        if model not in self._batchers:
            table = SeriesTable(
                model, self.settings, self.signer, on_lost=self._tell_lost, live=self._live
            )
            if self.journal is not None:
                self.journal.attach(table)
            batcher = Batcher(table, self.settings, self._executor, self._long_executor)
            self._batchers[model] = (table, batcher)
        return self._batchers[model]

    async def stop(self, seconds: float) -> None:
        """Writes what the state store lacks, for so long, and ends.

        All streams must be closed.
        """
        if self.journal is not None:
            try:
                async with asyncio.timeout(seconds):
                    await self.journal.flush()
            except TimeoutError:
                logger.warning("the state store was not brought up to date before the end")
            await self.journal.stop()
        self.close()

    def close(self) -> None:
        """Ends the worker threads."""
        if self._drop_timer is not None:
            self._drop_timer.cancel()
        self._executor.shutdown()
        self._long_executor.shutdown()

    def _tell_lost(self, owner: int, handle: int, key: str, error: ServingError) -> None:
        self._calls[owner].lose(handle, key, error)

    def _tell_store(self, available: bool) -> None:
        self.on_store(available)

    def _drop_expired(self) -> None:
        """Drops series kept for too long, now and whenever the next one is due."""
        waits = [table.drop_expired() for table, _ in self._batchers.values()]
        due = [seconds for seconds in waits if seconds is not None]
        if due and self._drop_timer is None:
            loop = asyncio.get_running_loop()
            self._drop_timer = loop.call_later(min(due), self._drop_timer_fired)

    def _drop_timer_fired(self) -> None:
        self._drop_timer = None
        self._drop_expired()
