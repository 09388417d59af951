"""How many series are live in each stream and over each connection, and how many may be."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tidegate.serve.errors import ResourceExhaustedError

if TYPE_CHECKING:
    from tidegate.serve.settings import Settings


class LiveSeries:
    """Counts of all models together.

    Args:
        settings: The limits.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._of_stream: Counter[int] = Counter()
        self._of_connection: Counter[str] = Counter()
        self._connections: dict[int, str] = {}

    def open(self, stream: int, connection: str) -> None:
        """A stream begins; empty: its connection is not counted."""
        if connection:
            self._connections[stream] = connection

    def sender(self, stream: int) -> str | int:
        """With whom a stream shares its turns: its connection, or nobody but itself."""
        return self._connections.get(stream, stream)

    def close(self, stream: int) -> None:
        """A stream has ended, and all its series have left."""
        self._connections.pop(stream, None)

    def check(self, stream: int) -> None:
        """Refuses one more series.

        Raises:
            ResourceExhaustedError: The stream or its connection has as many as it may.
        """
        most = self._settings.max_series_per_stream
        if self._of_stream[stream] >= most:
            raise ResourceExhaustedError(
                f"this stream has {most} series already (--max-series-per-stream): "
                "finish some, or open another stream"
            )
        most = self._settings.max_series_per_connection
        connection = self._connections.get(stream, "")
        if connection and self._of_connection[connection] >= most:
            raise ResourceExhaustedError(
                f"the streams of this connection have {most} series already "
                "(--max-series-per-connection): finish some, or open another connection"
            )

    def enter(self, stream: int) -> None:
        """A series goes live."""
        self._add(stream, 1)

    def leave(self, stream: int) -> None:
        """A live series is so no more."""
        self._add(stream, -1)

    def _add(self, stream: int, change: int) -> None:
        self._of_stream[stream] += change
        if not self._of_stream[stream]:
            del self._of_stream[stream]
        if connection := self._connections.get(stream):
            self._of_connection[connection] += change
            if not self._of_connection[connection]:
                del self._of_connection[connection]
