"""What is left of series that no stream holds: kept states, and offsets of dropped ones."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Kept:
    """Series whose stream has ended, in the order in which it ended.

    Args:
        seconds: How long a series is kept.
        clock: Seconds that never go back.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._since: OrderedDict[int, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._since)

    def __contains__(self, handle: int) -> bool:
        return handle in self._since

    def add(self, handle: int) -> None:
        """Begins to keep a series."""
        self._since[handle] = self._clock()

    def discard(self, handle: int) -> None:
        """Forgets a series; one that is not kept is no error."""
        self._since.pop(handle, None)

    def longest(self) -> int | None:
        """The series that has been kept longest; None when there is none."""
        return next(iter(self._since), None)

    def expired(self) -> Iterator[int]:
        """Series to drop now. Each must be discarded before the next is taken."""
        oldest = self._clock() - self._seconds
        while self._since:
            handle, since = next(iter(self._since.items()))
            if since > oldest:
                return
            yield handle

    def seconds_left(self) -> float | None:
        """Until the next one expires; None when none is kept."""
        handle = self.longest()
        if handle is None:
            return None
        return max(0.0, self._since[handle] + self._seconds - self._clock())


class DroppedOffsets:
    """Where series were when their states were dropped, for their next start.

    Args:
        limit: Series to remember; beyond it the longest dropped is forgotten.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._offsets: OrderedDict[str, tuple[str, int]] = OrderedDict()

    def add(self, key: str, identity: str, next_offset: int) -> None:
        """Remembers one series; one that has seen nothing lost nothing."""
        if next_offset:
            self._offsets[key] = (identity, next_offset)
            self._offsets.move_to_end(key)
            if len(self._offsets) > self._limit:
                self._offsets.popitem(last=False)

    def take(self, key: str, identity: str) -> int:
        """Forgets a series; returns its offset to the identity that owned it, else 0."""
        owner, offset = self._offsets.pop(key, ("", 0))
        return offset if owner == identity else 0
