"""What a client keeps of a series, to go on with it on any server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Series:
    """A live series: where it is, its last checkpoint, and the rows since then.

    A checkpoint may come before the answer that it covers. It counts only when
    that answer is here, else the answer could not be asked for again.

    Attributes:
        key: Names it.
        handle: Its number in the stream that is open now.
        next_offset: The observation to send next: all before it are answered.
        token: Checkpoint; empty: the series began at offset 0.
        unsaved: Answered rows that the checkpoint does not cover, chunk by chunk.
    """

    __slots__ = ("_early", "handle", "key", "next_offset", "token", "unsaved")

    def __init__(self, key: str, token: bytes = b"") -> None:
        self.key = key
        self.handle = -1
        self.next_offset = 0
        self.token = token
        self.unsaved: list[NDArray[np.float32]] = []
        self._early: tuple[int, bytes] | None = None

    @property
    def saved_offset(self) -> int:
        """The observation from which a server goes on that gets the checkpoint."""
        return self.next_offset - sum(map(len, self.unsaved))

    def restart(self) -> pb.SeriesStart:
        """The wish to go on from the checkpoint, wherever the series is live."""
        return pb.SeriesStart(
            key=self.key, checkpoint=self.token, take_over=True, reset=not self.token
        )

    def answered(self, rows: NDArray[np.float32], *, keep: bool) -> None:
        """Counts a chunk whose answer is here, and keeps it until a checkpoint covers it."""
        self.next_offset += len(rows)
        if keep:
            self.unsaved.append(rows)
        if self._early is not None:
            self.saved(*self._early)

    def saved(self, offset: int, token: bytes) -> None:
        """Takes a checkpoint, now or when the answers that it covers are here."""
        if offset > self.next_offset:
            self._early = offset, token
            return
        self._early = None
        covered = offset - self.saved_offset
        if covered < 0:
            return
        while self.unsaved and covered >= len(self.unsaved[0]):
            covered -= len(self.unsaved.pop(0))
        if covered and self.unsaved:
            self.unsaved[0] = self.unsaved[0][covered:]
        self.token = token

    def chunk_at(self, offset: int) -> NDArray[np.float32] | None:
        """The unsaved rows from an offset to the end of their chunk; None at the end."""
        start = self.saved_offset
        for rows in self.unsaved:
            if start <= offset < start + len(rows):
                return rows[offset - start :]
            start += len(rows)
        return None

    def forget_early(self) -> None:
        """Drops a checkpoint whose answers were lost."""
        self._early = None
