"""Micro-batches of chunks from all streams of a model."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tidegate.serve import tracing
from tidegate.serve.batch import Batch, Outcome, Run
from tidegate.serve.errors import INTERNAL_TEXT, ServingError
from tidegate.serve.fair_queue import FairQueue

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Executor

    from opentelemetry.trace import Link

    from tidegate.serve.entries import Chunks
    from tidegate.serve.settings import Settings
    from tidegate.serve.streams import SeriesTable

logger = logging.getLogger(__name__)


class Batcher:
    """Takes the messages of all streams of a model, long ones apart from the others.

    Args:
        table: The series of the model.
        settings: Limits.
        executor: One worker thread, for runs that would hold up the event loop.
        long_executor: One worker thread, for messages that would hold up the others.
    """

    def __init__(
        self,
        table: SeriesTable,
        settings: Settings,
        executor: Executor,
        long_executor: Executor,
    ) -> None:
        self._long_rows = settings.long_rows
        self._short = _Lane(table, settings, executor, settings.long_rows)
        self._long = _Lane(table, settings, long_executor, settings.max_batch_rows)

    def submit(self, chunks: Chunks) -> asyncio.Future[Outcome]:
        """Queues one message; the future holds its answer."""
        rows = sum(chunks.rows) if chunks.rows else len(chunks.handles)
        lane = self._long if rows > self._long_rows else self._short
        return lane.submit(chunks, rows)


class _Lane:
    """Forms batches over one turn of the event loop, without a timer.

    A message waits for two `call_soon` hops: the first lets every other stream
    that is ready hand in its message. While a batch runs, the next one forms.
    A stream hands in a message only after the answer to the one before, so a
    series has at most one chunk in flight, and the queue is bounded by the number
    of streams. Connections take turns: a message waits for at most one of each
    other connection, and for those that came before it over its own.

    Args:
        table: The series of the model.
        settings: Limits.
        executor: One worker thread, for runs that would hold up the event loop.
        rows: A batch takes no more messages once it has so many rows.
    """

    def __init__(
        self, table: SeriesTable, settings: Settings, executor: Executor, rows: int
    ) -> None:
        self._table = table
        self._settings = settings
        self._executor = executor
        self._rows = rows
        self._waiting: FairQueue[tuple[Chunks, int, asyncio.Future[Outcome], Link | None]] = (
            FairQueue()
        )
        self._scheduled = False
        self._running: asyncio.Task[None] | None = None
        self._waiting_since = 0.0

    def submit(self, chunks: Chunks, rows: int) -> asyncio.Future[Outcome]:
        """Queues one message of so many rows; the future holds its answer."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        if not self._waiting:
            self._waiting_since = time.perf_counter()
        sender = self._table.sender(chunks.owner)
        self._waiting.push(sender, (chunks, rows, future, tracing.here()))
        self._schedule()
        return future

    def _schedule(self) -> None:
        if not self._scheduled and self._running is None and self._waiting:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._hop)

    def _hop(self) -> None:
        asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        messages, futures, calls = self._take()
        if not messages:
            return
        stats = self._table.model.stats
        stats.queue_seconds.observe(time.perf_counter() - self._waiting_since)
        with _refusing_on_error(futures):
            batch = Batch(messages, self._table, self._settings)
            rows = batch.rows
            stats.steps += rows
            if rows > self._settings.inline_rows:
                task = self._run_in_thread(batch, futures, calls)
                self._running = asyncio.get_running_loop().create_task(task)
                return
            with tracing.batch(self._table.model.name, calls):
                for run in batch.runs():
                    with self._failing_on_error(batch, run):
                        with tracing.run(run.rows):
                            outputs, seconds = self._table.model.session.timed_run(run.feeds)
                        stats.record_run(run.rows, seconds)
                        batch.commit(run, outputs)
            _deliver(batch, futures)
        self._schedule()

    async def _run_in_thread(
        self,
        batch: Batch,
        futures: list[asyncio.Future[Outcome]],
        calls: Sequence[Link | None],
    ) -> None:
        loop = asyncio.get_running_loop()
        model = self._table.model
        run_network = model.session.timed_run
        with _refusing_on_error(futures):
            with tracing.batch(model.name, calls):
                for run in batch.runs():
                    with self._failing_on_error(batch, run):
                        with tracing.run(run.rows):
                            outputs, seconds = await loop.run_in_executor(
                                self._executor, run_network, run.feeds
                            )
                        model.stats.record_run(run.rows, seconds)
                        batch.commit(run, outputs)
            _deliver(batch, futures)
        self._running = None
        self._schedule()

    @contextmanager
    def _failing_on_error(self, batch: Batch, run: Run) -> Iterator[None]:
        """A run that fails refuses its own chunks; the other runs go on."""
        try:
            yield
        except Exception:
            logger.exception("a run of %s failed", self._table.model.label)
            batch.fail(run, ServingError(INTERNAL_TEXT))

    def _take(self) -> tuple[list[Chunks], list[asyncio.Future[Outcome]], list[Link | None]]:
        """The next messages within the limits, without those nobody waits for any more."""
        messages, futures, calls = [], [], []
        room, rows_left = self._settings.max_batch, self._rows
        while self._waiting and room > 0 and rows_left > 0:
            chunks, rows, future, call = self._waiting.pop()
            if not future.done():
                messages.append(chunks)
                futures.append(future)
                calls.append(call)
                room -= len(chunks.handles)
                rows_left -= rows
        return messages, futures, calls


def _deliver(batch: Batch, futures: list[asyncio.Future[Outcome]]) -> None:
    for future, outcome in zip(futures, batch.outcomes(), strict=True):
        # A stream that ended meanwhile has cancelled its future.
        if not future.done():
            future.set_result(outcome)


@contextmanager
def _refusing_on_error(futures: list[asyncio.Future[Outcome]]) -> Iterator[None]:
    try:
        yield
    except Exception:
        logger.exception("a batch failed")
        for future in futures:
            if not future.done():
                future.set_exception(ServingError(INTERNAL_TEXT))
