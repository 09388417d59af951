"""Sequences of different lengths as flat arrays, without loops over sequences.

Legend: N sequences, R rows of all of them, B sequences in one run, T longest of them.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


class Rows(Protocol):
    """Rows that are picked by number, as from an array."""

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[Any]:
        """The rows, in the shape of their numbers."""


class RaggedRows:
    """Rows of different lengths, which only those that are picked are padded for.

    One long row among many short ones then costs memory in its own run alone.

    Args:
        rows: Distinct rows.
        places: For each row that can be picked, which of them it is, [R].
    """

    def __init__(self, rows: Sequence[Sequence[int]], places: NDArray[np.int64]) -> None:
        lengths = np.array([len(row) for row in rows], np.int64)
        # One more: the end of an empty row is a place too.
        self._flat = np.array([*itertools.chain.from_iterable(rows), 0], np.int64)
        self._starts = (np.cumsum(lengths) - lengths)[places]
        self._lengths = lengths[places]

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.int64]:
        """The rows, one axis more than their numbers; 0 after a row's end."""
        lengths = self._lengths[rows][..., None]
        steps = np.arange(max(1, int(lengths.max())))
        values = self._flat.take(self._starts[rows][..., None] + steps, mode="clip")
        return np.where(steps < lengths, values, 0)


def split_runs(
    lengths: NDArray[np.int64], max_batch: int, max_rows: int
) -> Iterator[NDArray[np.int64]]:
    """Groups sequences so that no run is more than half padding.

    Args:
        lengths: Rows of each sequence, [N], at least 1 each.
        max_batch: Sequences in a run.
        max_rows: Rows in a run, padding included; a longer sequence runs alone.

    Yields:
        Indices of the sequences of a run.
    """
    if len(lengths) and int(lengths.max()) == 1:
        step = min(max_batch, max_rows)
        for start in range(0, len(lengths), step):
            yield np.arange(start, min(start + step, len(lengths)))
        return
    order = np.argsort(lengths, kind="stable")
    # frexp's exponent of n - 1 is the same for all n within (2**k, 2**(k + 1)].
    classes = np.frexp(lengths[order] - 1)[1]
    for members in np.split(order, np.flatnonzero(np.diff(classes)) + 1):
        if len(members) == 0:
            continue
        step = max(1, min(max_batch, max_rows // int(lengths[members].max())))
        for start in range(0, len(members), step):
            yield members[start : start + step]


def padded(
    values: Rows,
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    longest: int | None = None,
) -> NDArray[Any]:
    """Cuts sequences out of [R, ...] into [B, T, ...]; a short one repeats its last row.

    T is `longest` where that is given, else the longest of the lengths.
    """
    longest = longest or int(lengths.max())
    if longest == 1:
        return values[starts][:, None]
    steps = np.minimum(np.arange(longest), lengths[:, None] - 1)
    return values[starts[:, None] + steps]


def joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Batches one after the other; one with a shorter last axis gets zeros behind it."""
    longest = max(part.shape[-1] for part in parts)
    return np.concatenate(
        [
            np.pad(part, [(0, 0)] * (part.ndim - 1) + [(0, longest - part.shape[-1])])
            if part.shape[-1] < longest
            else part
            for part in parts
        ]
    )


def ragged_range(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """0..counts[0]-1, then 0..counts[1]-1 and so on, in one array."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) - np.repeat(ends - counts, counts)
