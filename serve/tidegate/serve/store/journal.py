"""What a table of series knows of the state store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tidegate.serve.errors import ServingError
    from tidegate.serve.store.records import Claim, Claimed, Write


class Journal(Protocol):
    """What writes the states of a table to a store; see `WriteBehind`."""

    def changed(self) -> None:
        """Rows are dirty."""

    def leave(self, write: Write) -> None:
        """A row is freed; this is the last of its series."""

    def waiting(self, name: str) -> Write | None:
        """What was left of a series and is not stored yet."""

    async def claim(self, claims: Sequence[Claim]) -> list[Claimed | ServingError]:
        """Holds series in the store."""

    def release(self, names: Sequence[str]) -> None:
        """Gives up claims that led to nothing."""
