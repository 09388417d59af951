"""Lanes for truncated back-propagation through time.

Dimensions: B lanes, T steps of a segment, F features, horizon, targets.

Each row of a batch, a lane, follows one contiguous stretch of a series, segment
after segment, so that the state of one segment is where the next begins. At
the end of its stretch a lane takes the next one and its state is reset.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tidegate.train.data.series import Series

Values = NDArray[np.float64]


class Segment(NamedTuple):
    """One batch of truncated back-propagation.

    Attributes:
        x: float32 [B, T, F], raw; zero beyond a row's length.
        y: float32 [B, T, horizon, targets], the values 1 to horizon steps after
            each step; NaN where they are not known and take no part in the loss.
        lengths: int64 [B], each at least 1. A lane with nothing left has the
            length 1 and only NaN for targets.
        reset: bool [B], whether a new stretch begins and the state is forgotten.
        stretch: int64 [B], the number of each row's stretch within the epoch; 0
            for a lane with nothing left.
    """

    x: Tensor
    y: Tensor
    lengths: Tensor
    reset: Tensor
    stretch: Tensor

    def to(self, device: torch.device) -> "Segment":
        """The same on a device."""
        return Segment(*(one.to(device) for one in self))


class Stretch(NamedTuple):
    """Rows ``start`` to before ``stop`` of a series."""

    series: int
    start: int
    stop: int


class Piece(NamedTuple):
    """A lane's part of a segment: some rows of a stretch.

    Attributes:
        rows: of the series.
        begins: whether the stretch begins here.
        number: of the stretch.
    """

    rows: Stretch
    begins: bool
    number: int


@dataclass(frozen=True)
class Lanes:
    """Series laid out on the rows of a batch.

    Args:
        series: the training parts; nothing later is ever read, so the targets
            of the last steps are NaN.
        lanes: B; series longer than a lane's share are cut into stretches.
        bptt: T, the most steps of a segment.
        horizon: steps ahead.
        targets: columns to forecast.
    """

    series: Sequence[Series]
    lanes: int
    bptt: int
    horizon: int
    targets: Sequence[int]

    def segments(self, generator: np.random.Generator | None = None) -> Iterator[Segment]:
        """One epoch.

        Args:
            generator: shortens the first segment of every stretch at random, so that
                gradients are not cut at the same steps in each epoch; None: all are full.
        """
        plan = assign([len(one) for one in self.series], self.lanes)
        targets = [multi_horizon(one.truth(self.targets), self.horizon) for one in self.series]
        first = self.bptt
        if generator is not None:
            first = int(generator.integers((self.bptt + 1) // 2, self.bptt, endpoint=True))
        before = accumulate((len(stretches) for stretches in plan), initial=0)
        cuts = [
            _pieces(stretches, first, self.bptt, number)
            for stretches, number in zip(plan, before, strict=False)
        ]
        for index in range(max(len(pieces) for pieces in cuts)):
            yield self._segment([_at(pieces, index) for pieces in cuts], targets)

    def _segment(self, pieces: Sequence[Piece | None], targets: Sequence[Values]) -> Segment:
        time = max(piece.rows.stop - piece.rows.start for piece in pieces if piece)
        width = self.series[0].values.shape[1]
        x = np.zeros((len(pieces), time, width), np.float32)
        y = np.full((len(pieces), time, self.horizon, len(self.targets)), np.nan, np.float32)
        lengths = np.ones(len(pieces), np.int64)
        reset = np.zeros(len(pieces), np.bool_)
        number = np.zeros(len(pieces), np.int64)
        for row, piece in enumerate(pieces):
            if piece is None:
                continue
            (index, start, stop), reset[row], number[row] = piece
            lengths[row] = stop - start
            x[row, : stop - start] = self.series[index].values[start:stop]
            y[row, : stop - start] = targets[index][start:stop]
        return Segment(*(torch.from_numpy(array) for array in (x, y, lengths, reset, number)))


def multi_horizon(values: Values, horizon: int) -> Values:
    """The values 1 to ``horizon`` rows after each row.

    Args:
        values: [rows, targets].
        horizon: steps ahead.

    Returns:
        [rows, horizon, targets]; NaN after the last row.
    """
    rows, width = values.shape
    padded = np.concatenate([values, np.full((horizon, width), np.nan)])
    windows = np.lib.stride_tricks.sliding_window_view(padded[1:], horizon, axis=0)
    return windows[:rows].transpose(0, 2, 1)


def assign(sizes: Sequence[int], lanes: int) -> list[list[Stretch]]:
    """Cuts series into stretches of about a lane's share and deals them out.

    The longest stretches go first, each to the lane with the fewest rows.

    Args:
        sizes: rows of each series.
        lanes: how many lanes; as many as there are rows at most.

    Returns:
        The stretches of each lane.
    """
    share = -(-sum(sizes) // lanes)
    stretches = [
        Stretch(index, size * part // count, size * (part + 1) // count)
        for index, size in enumerate(sizes)
        for count in [-(-size // share)]
        for part in range(count)
    ]
    plan: list[list[Stretch]] = [[] for _ in range(min(lanes, len(stretches)))]
    for stretch in sorted(stretches, key=lambda s: s.start - s.stop):
        min(plan, key=lambda lane: sum(s.stop - s.start for s in lane)).append(stretch)
    return plan


def _pieces(stretches: Sequence[Stretch], first: int, bptt: int, number: int) -> list[Piece]:
    """A lane's pieces in order; its stretches are numbered on from the given number."""
    pieces: list[Piece] = []
    for own, (index, start, stop) in enumerate(stretches, start=number):
        cuts = [start, *range(start + first, stop, bptt), stop]
        pieces += [Piece(Stretch(index, a, b), a == start, own) for a, b in pairwise(cuts)]
    return pieces


def _at(pieces: Sequence[Piece], index: int) -> Piece | None:
    return pieces[index] if index < len(pieces) else None
