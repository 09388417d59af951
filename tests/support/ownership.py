"""Starts of series in a table, with rows for them and a clock that stands still."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tidegate.serve.opening import Opening

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tidegate.serve.streams import SeriesTable


def values(rows: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def opening(owner: int, key: str = "a", identity: str = "", **options: Any) -> Opening:
    return Opening(owner, identity, key, **options)


def advance(table: SeriesTable, handle: int, offset: int) -> None:
    """As if so many observations had been applied."""
    table.next_offset[handle] = offset
    table.slots.write(handle, [np.full((2, 16), offset, "<f4").tobytes()])
