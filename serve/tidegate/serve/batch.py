"""One batch: which runs of the network it needs, and what they change.

Legend: E entries (one chunk of one series each), B entries in one run, T longest of
them, A answers (one forecast each), V values of one forecast.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tidegate.serve.entries import Chunks, Entries
from tidegate.serve.errors import PoisonedStateError, ServingError
from tidegate.serve.ragged import padded, ragged_range, split_runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from tidegate.serve.settings import Settings
    from tidegate.serve.streams import SeriesTable


class Failure(NamedTuple):
    """Why a chunk was refused; nothing of it was applied."""

    key: str
    handle: int
    error: ServingError


class Outcome(NamedTuple):
    """The answer to one message.

    Attributes:
        handles: One for each forecast, [A].
        offsets: The observation that each forecast follows, [A].
        quantiles: Little-endian float32 [A, V].
        failures: Refused chunks.
        due: Series whose checkpoint is due.
    """

    handles: Sequence[int]
    offsets: Sequence[int]
    quantiles: bytes
    failures: list[Failure]
    due: list[int]


class Run(NamedTuple):
    """One run of the network, for some entries of a batch.

    Attributes:
        entries: Which, int64 [B].
        lengths: Rows of each, int64 [B].
        rows: B times T, padding included.
        feeds: The graph's inputs, as `Session.run` takes them.
    """

    entries: NDArray[np.int64]
    lengths: NDArray[np.int64]
    rows: int
    feeds: dict[str, Any]


class Batch:
    """Several messages, checked and laid out.

    The table changes only in `commit`, and there a chunk's state and offset
    together: a chunk is applied as a whole or not at all.

    Args:
        messages: At most one for each stream.
        table: The series they are about.
        settings: Limits.
    """

    def __init__(self, messages: Sequence[Chunks], table: SeriesTable, settings: Settings) -> None:
        self._messages = messages
        self._table = table
        self._settings = settings
        self._bounds = np.cumsum([0, *(len(message.handles) for message in messages)]).tolist()
        self._entries = Entries(messages, table, settings.max_rows_per_chunk)
        self.lengths = self._entries.accepted()
        self._answers = self._count_answers()
        self._starts = np.cumsum(self._answers) - self._answers
        self._quantiles = np.empty((int(self._answers.sum()), table.model.forecast_size), "<f4")
        self._answer_size = 4 * table.model.forecast_size
        self._due: set[int] = set()

    @property
    def rows(self) -> int:
        """Rows to apply."""
        return int(self.lengths.sum())

    def runs(self) -> Iterator[Run]:
        """The runs to make, in any order."""
        todo = np.flatnonzero(self.lengths)
        settings = self._settings
        for members in split_runs(self.lengths[todo], settings.max_batch, settings.max_batch_rows):
            yield self._run(todo[members])

    def commit(self, run: Run, outputs: Mapping[str, Any]) -> None:
        """Stores the next states and offsets, and keeps the forecasts for the answers."""
        quantiles = outputs["quantiles"]
        held = self._held(run)
        keep = held & self._finite(run, outputs)
        rows = None
        if not keep.all():
            rows = np.flatnonzero(keep)
            for row in np.flatnonzero(~keep).tolist():
                refuse = self._refuse_poisoned if held[row] else self._refuse_lost
                refuse(int(run.entries[row]))
            if not len(rows):
                return
            run = run._replace(entries=run.entries[rows], lengths=run.lengths[rows])
            quantiles = quantiles[rows]
        handles = self._entries.handles[run.entries]
        self._table.slots.scatter(handles, outputs, rows)
        self._advance(handles, run.lengths)
        self._keep_answers(run, quantiles)

    def fail(self, run: Run, error: ServingError) -> None:
        """Refuses all chunks of a run; nothing of them was applied."""
        for entry in run.entries.tolist():
            self._entries.refuse(entry, error)

    def outcomes(self) -> list[Outcome]:
        """The answer to each message, in the order of the messages."""
        errors, bounds = self._entries.errors, self._bounds
        if self._entries.plain and not errors:
            return self._plain_outcomes()
        if errors:
            # Entries that failed in their run have reserved answers that never came.
            failed = np.zeros(len(self._answers), np.bool_)
            failed[list(errors)] = True
            self._quantiles = self._quantiles[np.repeat(~failed, self._answers)]
            self._answers = np.where(failed, 0, self._answers)
            self._starts = np.cumsum(self._answers) - self._answers
        quantiles = self._quantiles.tobytes()
        return [self._outcome(quantiles, a, b) for a, b in pairwise(bounds)]

    def _count_answers(self) -> NDArray[np.int64]:
        """Forecasts to send for each entry, [E]."""
        if self._entries.plain:
            return self.lengths
        every_step = self._table.every_step[self._entries.handles]
        return np.where(every_step, self.lengths, np.minimum(self.lengths, 1))

    def _run(self, members: NDArray[np.int64]) -> Run:
        entries = self._entries
        lengths = self.lengths[members]
        x = padded(entries.values, (entries.first + entries.skipped)[members], lengths)
        feeds: dict[str, Any] = {"x": x, "lengths": lengths.astype(np.int32)}
        feeds.update(self._table.slots.gather(entries.handles[members]))
        return Run(members, lengths, x.shape[0] * x.shape[1], feeds)

    def _held(self, run: Run) -> NDArray[np.bool_]:
        """Whether the series of each entry is still its stream's, [B]: runs may take long."""
        held: NDArray[np.bool_] = (
            self._table.owner[self._entries.handles[run.entries]]
            == self._entries.owners[run.entries]
        )
        return held

    def _refuse_lost(self, entry: int) -> None:
        self._entries.refuse(entry, self._table.unknown(int(self._entries.sent[entry])))

    def _finite(self, run: Run, outputs: Mapping[str, Any]) -> NDArray[np.bool_]:
        """Whether forecasts and next states of each entry are finite, [B]."""
        quantiles, finite = outputs["quantiles"], self._table.slots.finite(outputs)
        if np.isfinite(quantiles).all():
            return finite
        good: NDArray[np.bool_] = np.isfinite(quantiles).all(axis=(2, 3, 4))
        if quantiles.shape[1] > 1:
            # What the graph computes beyond a sequence's end is nobody's.
            good |= np.arange(quantiles.shape[1]) >= run.lengths[:, None]
        return finite & good.all(axis=1)

    def _refuse_poisoned(self, entry: int) -> None:
        offset = int(self._entries.offsets[entry] + self._entries.rows[entry].astype(np.uint64))
        self._entries.refuse(
            entry,
            PoisonedStateError(
                f"{self._entries.name(entry)}: the network's output is not finite before offset "
                f"{offset}; the chunk was not applied: check its values for extremes"
            ),
        )

    def _advance(self, handles: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        table = self._table
        before = table.next_offset[handles]
        table.advance(handles, lengths)
        after = table.next_offset[handles]
        every = table.checkpoint_every[handles]
        if every.any():
            period = np.maximum(every, 1)
            due = (every > 0) & (after // period > before // period)
            self._due.update(handles[due].tolist())

    def _keep_answers(self, run: Run, quantiles: NDArray[np.float32]) -> None:
        if self._entries.plain:
            self._quantiles[run.entries] = quantiles.reshape(len(run.entries), -1)
            return
        answers = self._answers[run.entries]
        sequences = np.repeat(np.arange(len(answers)), answers)
        inside = ragged_range(answers)
        steps = np.repeat(run.lengths - answers, answers) + inside
        places = np.repeat(self._starts[run.entries], answers) + inside
        self._quantiles[places] = quantiles[sequences, steps].reshape(len(places), -1)

    def _plain_outcomes(self) -> list[Outcome]:
        """One forecast for each chunk, in the order in which they were sent."""
        # This and what it calls is paid once a message: bytes are cut faster than arrays.
        quantiles, size, due = self._quantiles.tobytes(), self._answer_size, self._due
        return [
            Outcome(
                message.handles,
                message.offsets,
                quantiles[start * size : end * size],
                [],
                [handle for handle in message.handles if handle in due] if due else [],
            )
            for message, (start, end) in zip(self._messages, pairwise(self._bounds), strict=True)
        ]

    def _outcome(self, quantiles: bytes, start: int, end: int) -> Outcome:
        entries, answers = self._entries, self._answers[start:end]
        total = int(answers.sum())
        first = int(self._starts[start]) if total else 0
        ends = entries.offsets[start:end] + entries.rows[start:end].astype(np.uint64)
        offsets = np.repeat(ends - answers.astype(np.uint64), answers)
        offsets += ragged_range(answers).astype(np.uint64)
        handles = entries.handles[start:end]
        due = [h for h in handles.tolist() if h in self._due] if self._due else []
        return Outcome(
            np.repeat(handles, answers).tolist(),
            offsets.tolist(),
            quantiles[first * self._answer_size : (first + total) * self._answer_size],
            self._failures(start, end),
            due,
        )

    def _failures(self, start: int, end: int) -> list[Failure]:
        failures = []
        for entry, error in sorted(self._entries.errors.items()):
            if start <= entry < end:
                handle = int(self._entries.sent[entry])
                failures.append(Failure(self._entries.key(entry), handle, error))
        return failures
