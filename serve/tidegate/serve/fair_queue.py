"""A queue of which nobody can take more than a share."""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import chain
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
        # In the order of their turns; a sender without items is not there. A plain dict would
        # look for its first item again from the beginning, past all those taken since it grew.
        self._senders: OrderedDict[Hashable, deque[T]] = OrderedDict()

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
        if not self._senders:
            raise IndexError("the queue is empty")
        sender, items = self._senders.popitem(last=False)
        item = items.popleft()
        if items:
            self._senders[sender] = items
        return item

    def in_turn(self) -> list[tuple[Hashable, T]]:
        """All items with their senders, as they would be popped."""
        longest = max(map(len, self._senders.values()), default=0)
        rounds: list[list[tuple[Hashable, T]]] = [[] for _ in range(longest)]
        for sender, items in self._senders.items():
            for one, item in zip(rounds, items, strict=False):
                one.append((sender, item))
        return list(chain.from_iterable(rounds))

    def remove(self, sender: Hashable, item: T) -> None:
        """Takes an item, which costs its sender a turn.

        Raises:
            KeyError: The sender has none.
            ValueError: It is not one of the sender's.
        """
        items = self._senders[sender]
        items.remove(item)
        del self._senders[sender]
        if items:
            self._senders[sender] = items
