"""The servers that a client may ask, and when each may be asked again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidegate.client.backoff import Retry
    from tidegate.client.errors import ClientError


class Targets:
    """Servers in turn, by index.

    Attributes:
        current: The server to ask now.
        retry: When to try again.

    Args:
        count: How many servers there are.
        retry: See above.
    """

    def __init__(self, count: int, retry: Retry) -> None:
        self.current = 0
        self.retry = retry
        self._not_before = [0.0] * count

    def __len__(self) -> int:
        return len(self._not_before)

    def next(self) -> None:
        """Goes on to the next server."""
        self.current = (self.current + 1) % len(self)

    def refused(self, error: ClientError) -> None:
        """The current server has refused; it may have said when to ask it again."""
        if error.retry_seconds:
            self._not_before[self.current] = self.retry.clock() + error.retry_seconds

    def pause(self, attempt: int) -> float:
        """Seconds to wait before an attempt on the current server; the first one is at once.

        After a delay that the server asked for there is a random part still, so
        that not all clients whom it told the same come back together.
        """
        left = max(0.0, self._not_before[self.current] - self.retry.clock())
        return left + (self.retry.pause(attempt) if attempt or left else 0.0)
