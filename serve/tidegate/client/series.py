"""What a client keeps of a series, to go on with it on any server."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from tidegate.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray


class Series:
    """A live series: where it is, its last checkpoint, and the rows that may be needed again.

    These are the rows since the checkpoint, and some history before them. Their
    number is bounded: by the observations between checkpoints and the history,
    or by one chunk if that is longer.

    A checkpoint may come before the answer that it covers. It counts only when
    that answer is here, else the answer could not be asked for again.

    Attributes:
        key: Names it.
        handle: Its number in the stream that is open now.
        next_offset: The observation to send next: all before it are answered.
        saved_offset: The observation from which a server goes on that gets the checkpoint.
        token: Checkpoint; empty: the series began at `saved_offset`.

    Args:
        key: See above.
        token: See above.
        history: Answered rows to keep, though a checkpoint covers them.
    """

    __slots__ = (
        "_early",
        "_history",
        "_kept",
        "_kept_offset",
        "handle",
        "key",
        "next_offset",
        "saved_offset",
        "token",
    )

    def __init__(self, key: str, token: bytes = b"", history: int = 0) -> None:
        self.key = key
        self.handle = -1
        self.token = token
        self._history = history
        self._early: tuple[int, bytes] | None = None
        self._kept: deque[NDArray[np.float32]] = deque()
        self.begin(0)

    def begin(self, offset: int) -> None:
        """Goes on at an offset, with nothing known of what was before."""
        self.next_offset = self.saved_offset = self._kept_offset = offset
        self._kept.clear()

    @property
    def kept(self) -> tuple[NDArray[np.float32], ...]:
        """Rows that are held, chunk by chunk, up to the next offset."""
        return tuple(self._kept)

    def restart(self) -> pb.SeriesStart:
        """The wish to go on from the checkpoint, wherever the series is live."""
        if self.token:
            return pb.SeriesStart(key=self.key, checkpoint=self.token, take_over=True)
        return pb.SeriesStart(
            key=self.key, take_over=True, reset=True, first_offset=self.saved_offset
        )

    def answered(self, rows: NDArray[np.float32], *, keep: bool) -> None:
        """Counts a chunk whose answer is here.

        Args:
            rows: The chunk.
            keep: Whether it is needed until a checkpoint covers it.
        """
        self.next_offset += len(rows)
        self._kept.append(rows)
        if not keep:
            self.saved_offset = self.next_offset
        if self._early is not None:
            self.saved(*self._early)
        self._trim()

    def saved(self, offset: int, token: bytes) -> None:
        """Takes a checkpoint, now or when the answers that it covers are here."""
        if offset > self.next_offset:
            self._early = offset, token
            return
        self._early = None
        if offset < self.saved_offset:
            return
        self.saved_offset, self.token = offset, token
        self._trim()

    def history(self) -> list[NDArray[np.float32]]:
        """The last answered rows, as many as are to be kept, chunk by chunk."""
        return [*self._rows_from(max(self._kept_offset, self.next_offset - self._history))]

    def begin_anew(self, rows: NDArray[np.float32]) -> None:
        """Drops the checkpoint: a server begins with these rows, the last before `next_offset`."""
        rows = rows[-self.next_offset :] if self.next_offset else rows[:0]
        self.token = b""
        self._early = None
        self._kept = deque([rows] if len(rows) else [])
        self.saved_offset = self._kept_offset = self.next_offset - len(rows)

    def chunk_at(self, offset: int) -> NDArray[np.float32] | None:
        """The kept rows from an offset to the end of their chunk; None at the end."""
        return next(self._rows_from(offset), None)

    def forget_early(self) -> None:
        """Drops a checkpoint whose answers were lost."""
        self._early = None

    def _rows_from(self, offset: int) -> Iterator[NDArray[np.float32]]:
        start = self._kept_offset
        for rows in self._kept:
            if offset < start + len(rows):
                yield rows[max(0, offset - start) :]
            start += len(rows)

    def _trim(self) -> None:
        floor = min(self.saved_offset, self.next_offset - self._history)
        while self._kept and self._kept_offset + len(self._kept[0]) <= floor:
            self._kept_offset += len(self._kept.popleft())
        if self._kept and self._kept_offset < floor:
            # A copy: a part of an array would hold the whole of it.
            self._kept[0] = self._kept[0][floor - self._kept_offset :].copy()
            self._kept_offset = floor
