"""The chunks of a batch as columns, and the checks that decide which are applied.

Legend: E entries (one chunk of one series each), R rows of all of them, F features.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tidegate.serve.errors import (
    InvalidArgumentError,
    NonFiniteError,
    OffsetGapError,
    ResourceExhaustedError,
    ServingError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tidegate.serve.streams import SeriesTable


class Chunks(NamedTuple):
    """One message of observations: a chunk for each of some series.

    The counts agree: a handle, an offset and a number of rows for each chunk,
    and bytes for all rows. No rows at all: one for each chunk.
    """

    owner: int
    handles: Sequence[int]
    offsets: Sequence[int]
    rows: Sequence[int]
    values: bytes


class Entries:
    """All chunks of a batch.

    Attributes:
        sent: The handles as sent, int64 [E].
        owners: The stream that sent each, uint64 [E].
        handles: The same, 0 where they are unknown, so that columns can be indexed.
        offsets: Offset of each chunk's first row, uint64 [E].
        rows: Rows of each chunk, int64 [E].
        first: Index of each chunk's first row in `values`, int64 [E].
        values: [R, F], as the network reads them.
        skipped: Leading rows that were applied before, int64 [E].
        plain: Whether each chunk is one row that was expected and is well.
        errors: Why an entry is refused; nothing of it is applied.

    Args:
        messages: At most one for each stream.
        table: The series they are about.
        max_rows: Rows of a chunk.
    """

    def __init__(self, messages: Sequence[Chunks], table: SeriesTable, max_rows: int) -> None:
        self._table = table
        counts = [len(message.handles) for message in messages]
        self.sent = np.array(_joined([message.handles for message in messages]), np.int64)
        self.offsets = np.array(_joined([message.offsets for message in messages]), np.uint64)
        owners = np.array([message.owner for message in messages], np.uint64)
        self.owners = owners if max(counts) == 1 == min(counts) else np.repeat(owners, counts)
        values = np.frombuffer(b"".join([message.values for message in messages]), "<f4")
        self.values = table.model.readable(values).reshape(-1, table.model.features)
        self.errors: dict[int, ServingError] = {}
        self.rows = np.ones(len(self.sent), np.int64)
        if any(message.rows for message in messages):
            rows = [m.rows or (1,) * n for m, n in zip(messages, counts, strict=True)]
            self.rows = np.array(_joined(rows), np.int64)
        self.first = np.cumsum(self.rows) - self.rows
        self.plain = self._is_plain(most=max(counts))
        if self.plain:
            self.handles, self.skipped = self.sent, np.zeros_like(self.rows)
        else:
            self._check(max_rows)

    def _is_plain(self, most: int) -> bool:
        """Whether all is well, as almost always; then the checks below would find nothing.

        Args:
            most: Chunks in the largest message; only there a series could come twice.
        """
        handles, table = self.sent, self._table
        if not len(handles) or int(handles.max()) >= len(table.owner):
            return False
        return bool(
            (table.owner[handles] == self.owners).all()
            and (table.next_offset[handles] == self.offsets).all()
            and (self.rows == 1).all()
            and np.isfinite(self.values).all()
            and (most == 1 or len(np.unique(handles)) == len(handles))
        )

    def _check(self, max_rows: int) -> None:
        self._known = self._table.owned(self.owners, self.sent)
        self.handles = np.where(self._known, self.sent, 0)
        self._check_known()
        self._check_repeats()
        self._check_rows(max_rows)
        self.skipped = self._check_offsets()
        self._check_values()

    def accepted(self) -> NDArray[np.int64]:
        """Rows to apply for each entry, [E]; 0 for one that is refused or was applied before."""
        lengths = self.rows - self.skipped
        if self.errors:
            lengths[list(self.errors)] = 0
        return lengths

    def refuse(self, entry: int, error: ServingError) -> None:
        """Marks an entry as refused; the first reason stays."""
        self.errors.setdefault(entry, error)

    def key(self, entry: int) -> str:
        """The key of an entry's series; empty where the handle is not the stream's own."""
        known = self.plain or self._known[entry]
        return self._table.key(int(self.sent[entry])) if known else ""

    def name(self, entry: int) -> str:
        """The series of an entry, as texts name it."""
        return f"series {self.key(entry)!r}"

    def _check_known(self) -> None:
        for entry in np.flatnonzero(~self._known).tolist():
            self.refuse(entry, self._table.unknown(int(self.sent[entry])))

    def _check_repeats(self) -> None:
        """One chunk of a series at a time: the second in a message would need the first's state."""
        known = self._known
        entries = np.arange(len(self.handles))
        first_use = np.zeros(len(self._table.owner), np.int64)
        # Of several writes to one place the last wins, so write backwards.
        first_use[self.handles[known][::-1]] = entries[known][::-1]
        for entry in np.flatnonzero(known & (first_use[self.handles] != entries)).tolist():
            self.refuse(
                entry,
                InvalidArgumentError(
                    f"{self.name(entry)} has two chunks in one message: send one chunk with all "
                    "rows, or two messages"
                ),
            )

    def _check_rows(self, limit: int) -> None:
        for entry in np.flatnonzero((self.rows == 0) | (self.rows > limit)).tolist():
            rows = int(self.rows[entry])
            self.refuse(
                entry,
                ResourceExhaustedError(
                    f"{self.name(entry)}: a chunk of {rows} rows is over the limit of {limit} "
                    "(--max-rows-per-chunk): send it in parts"
                )
                if rows
                else InvalidArgumentError(f"{self.name(entry)}: the chunk has no rows"),
            )

    def _check_offsets(self) -> NDArray[np.int64]:
        """Refuses gaps; returns how many leading rows of each chunk were applied before."""
        expected = self._table.next_offset[self.handles]
        for entry in np.flatnonzero(self.offsets > expected).tolist():
            want = int(expected[entry])
            self.refuse(
                entry,
                OffsetGapError(
                    f"{self.name(entry)}: the chunk starts at offset {int(self.offsets[entry])}, "
                    f"the offset expected is {want}: send the rows in between first",
                    want,
                ),
            )
        behind = expected - np.minimum(self.offsets, expected)
        return np.minimum(behind, self.rows.astype(np.uint64)).astype(np.int64)

    def _check_values(self) -> None:
        """NaN and infinity stop here: ONNX Runtime's CPU GRU would hide them."""
        finite = np.isfinite(self.values)
        if finite.all():
            return
        bad = ~(finite | (np.isnan(self.values) & self._table.model.allow_missing))
        rows, features = np.nonzero(bad)
        owners = np.searchsorted(self.first + self.rows, rows, side="right")
        applied = rows - self.first[owners] >= self.skipped[owners]
        for i in np.flatnonzero(applied).tolist():
            self._refuse_value(int(owners[i]), int(rows[i]), int(features[i]))

    def _refuse_value(self, entry: int, row: int, feature: int) -> None:
        if entry in self.errors:
            return
        inside = row - int(self.first[entry])
        problem = self._table.model.unreadable(feature, self.values[row, feature])
        self.refuse(
            entry,
            NonFiniteError(
                f"{self.name(entry)}, row {inside} (offset {int(self.offsets[entry]) + inside}), "
                f"{problem}"
            ),
        )


def _joined(parts: Sequence[Sequence[int]]) -> list[int]:
    return list(chain.from_iterable(parts))
