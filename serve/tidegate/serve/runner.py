"""Runs of whole sequences, for requests that keep no state; several share a run.

Legend: N sequences of one request, R rows of all of them, B sequences in one run, T
longest of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tidegate.serve import tracing
from tidegate.serve.errors import INTERNAL_TEXT, ServingError
from tidegate.serve.fair_queue import FairQueue
from tidegate.serve.ragged import Rows, joined, padded, split_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from tidegate.serve.model import Model
    from tidegate.serve.settings import Settings

    Outputs = dict[str, NDArray[Any]]

logger = logging.getLogger(__name__)


class Runner:
    """Pads sequences into runs within the limits and runs them in the worker thread.

    Requests that come together share runs: their sequences are grouped by
    length, so that no run is more than half padding, under a budget of rows.
    A request waits for two turns of the event loop, for others to join, and
    never for a timer. Between two runs of a large request others get theirs, and
    connections take turns, however many requests each has sent.

    Args:
        settings: Limits.
        executor: The worker thread.
    """

    def __init__(self, settings: Settings, executor: Executor) -> None:
        self._settings = settings
        self._executor = executor
        self._queues: dict[Model, _Queue] = {}

    async def run(
        self,
        model: Model,
        values: Mapping[str, Rows],
        lengths: NDArray[np.int64],
        take: Callable[[NDArray[np.int64], Outputs], None],
        connection: str = "",
    ) -> None:
        """Runs all sequences from their initial states.

        Args:
            model: The model.
            values: For each input all sequences one after the other, [R, ...].
            lengths: Rows of each, [N], at least 1.
            take: Gets the indices of some of the sequences, [B], and the outputs
                of their run, [B, T, ...]; each sequence comes once.
            connection: Names the one that the request came over, which takes turns
                with others; empty: the request takes turns by itself.

        Raises:
            ServingError: A run has failed.
        """
        if not len(lengths):
            return
        queue = self._queues.get(model)
        if queue is None:
            queue = self._queues[model] = _Queue(model, self._settings, self._executor)
            queue.task = asyncio.create_task(self._work(model, queue))
        request = _Request(values, lengths, self._settings.max_batch, queue.max_rows, take)
        queue.push(request, connection)
        await request.done

    async def _work(self, model: Model, queue: _Queue) -> None:
        try:
            await queue.work()
        finally:
            # At once, not in a later turn: a queue that has ended must not be found.
            del self._queues[model]


class _Group(NamedTuple):
    """Sequences of one request that can run together.

    Attributes:
        members: Which, [B].
        longest: Rows of the longest.
    """

    members: NDArray[np.int64]
    longest: int

    @property
    def length_class(self) -> int:
        """The same for lengths of which none is more than twice another; see `split_runs`."""
        return (self.longest - 1).bit_length()


class _Request:
    """One request, as groups of its sequences that are still to run."""

    def __init__(
        self,
        values: Mapping[str, Rows],
        lengths: NDArray[np.int64],
        max_batch: int,
        max_rows: int,
        take: Callable[[NDArray[np.int64], Outputs], None],
    ) -> None:
        self.values = values
        self.lengths = lengths
        self.starts = np.cumsum(lengths) - lengths
        self.take = take
        self.call = tracing.here()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        runs = split_runs(lengths, max_batch, max_rows)
        self.groups = deque(_Group(members, int(lengths[members].max())) for members in runs)

    def padded(self, name: str, group: _Group, longest: int) -> NDArray[Any]:
        """An input's rows of a group, [B, longest, ...]."""
        starts, lengths = self.starts[group.members], self.lengths[group.members]
        return padded(self.values[name], starts, lengths, longest)


class _Part(NamedTuple):
    """What one request has in a run, and whose turn it was."""

    sender: Hashable
    request: _Request
    group: _Group


class _Queue:
    """The requests of one model, run in turn.

    Attributes:
        task: Runs them, and ends when there is none.
        max_rows: Rows in one run, padding included.
    """

    def __init__(self, model: Model, settings: Settings, executor: Executor) -> None:
        self._model = model
        self._max_batch = settings.max_batch
        self.max_rows = max(1, settings.max_batch_rows // model.steps_per_row)
        self._executor = executor
        self._requests: FairQueue[_Request] = FairQueue()
        self.task: asyncio.Task[None]

    def push(self, request: _Request, connection: str) -> None:
        """Queues a request that has groups left."""
        self._requests.push(connection or request, request)

    async def work(self) -> None:
        """Runs until no request is left."""
        for _ in range(2):
            await asyncio.sleep(0)
        while self._requests:
            parts = self._next()
            if not parts:
                continue
            try:
                await self._run(parts)
            except Exception:
                logger.exception("a run of %s failed", self._model.label)
                for _, request, _ in parts:
                    request.groups.clear()
                    if not request.done.done():
                        request.done.set_exception(ServingError(INTERNAL_TEXT))
            for sender, request, _ in parts:
                if request.groups:
                    # Behind those that came meanwhile.
                    self._requests.push(sender, request)
                elif not request.done.done():
                    request.done.set_result(None)

    def _next(self) -> list[_Part]:
        """A group of the first request, and what fits beside it of the others, out of the queue."""
        parts: list[_Part] = []
        sequences = longest = 0
        for sender, request in self._requests.in_turn():
            # A client that has gone, or whose deadline has passed, needs no answer.
            if request.done.done():
                self._requests.remove(sender, request)
                continue
            group = request.groups[0]
            if parts and group.length_class != parts[0].group.length_class:
                continue
            most = max(longest, group.longest)
            count = sequences + len(group.members)
            over = count > self._max_batch or count * most > self.max_rows
            if parts and over:
                continue
            parts.append(_Part(sender, request, request.groups.popleft()))
            sequences, longest = count, most
            self._requests.remove(sender, request)
        return parts

    async def _run(self, parts: list[_Part]) -> None:
        longest = max(group.longest for _, _, group in parts)
        lengths = np.concatenate([request.lengths[group.members] for _, request, group in parts])
        feeds = {
            name: joined([request.padded(name, group, longest) for _, request, group in parts])
            for name in parts[0].request.values
        }
        feeds["lengths"] = lengths.astype(np.int32)
        for state in self._model.states:
            shape = (state.layers, len(lengths), state.width)
            feeds[state.input] = np.full(shape, state.initial_value, state.dtype)
        loop = asyncio.get_running_loop()
        run = self._model.session.timed_run
        calls = [request.call for _, request, _ in parts]
        with tracing.batch(self._model.name, calls), tracing.run(len(lengths) * longest):
            outputs, seconds = await loop.run_in_executor(self._executor, run, feeds)
        self._model.stats.record_run(len(lengths) * longest, seconds)
        self._model.stats.steps += int(lengths.sum())
        states = {state.output for state in self._model.states}
        start = 0
        for _, request, group in parts:
            end = start + len(group.members)
            if not request.done.done():
                own = {name: x[start:end] for name, x in outputs.items() if name not in states}
                request.take(group.members, own)
            start = end
