"""A queue of which nobody can take more than a share."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Items of several senders; each sender's are in order, and the senders take turns.

    An item waits for the earlier ones of its sender, and with each of these for
    at most one of every other sender, however many those have (round robin).
    """

    def __init__(self) -> None:
        # In the order of their turns; a sender without items is not there.
        self._senders: dict[Hashable, deque[T]] = {}

    def __bool__(self) -> bool:
        return bool(self._senders)

    def push(self, sender: Hashable, item: T) -> None:
        """Puts an item behind all of its sender."""
        items = self._senders.get(sender)
        if items is None:
            items = self._senders[sender] = deque()
        items.append(item)

    def pop(self) -> T:
        """Takes the first item of the sender whose turn it is.

        Raises:
            IndexError: The queue is empty.
        """
        sender = next(iter(self._senders), None)
        if sender is None:
            raise IndexError("the queue is empty")
        items = self._senders.pop(sender)
        item = items.popleft()
        if items:
            self._senders[sender] = items
        return item
