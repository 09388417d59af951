"""Windows in any order: the alternative to lanes, for training without a carried state.

Dimensions: B windows, L steps of a window, F features, horizon, targets.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tidegate.train.data.lanes import Segment, multi_horizon
from tidegate.train.data.series import Series


@dataclass(frozen=True)
class Windows:
    """Every window of L rows of every series, shuffled over all of them.

    Each is read from the initial state, and only its last step is learnt: the
    forecast that a window of L observations gets. Lanes learn from every step
    they read, so that an epoch of windows takes about L times as long.

    Args:
        series: the training parts; nothing later is ever read, so the targets
            of the last windows are NaN in part.
        batch: B, the most windows of a batch.
        lookback: L.
        horizon: steps ahead.
        targets: columns to forecast.
        stride: rows from the start of one window to that of the next.

    Raises:
        ValueError: a series has no whole window with a value after it.
    """

    series: Sequence[Series]
    batch: int
    lookback: int
    horizon: int
    targets: Sequence[int]
    stride: int = 1

    def __post_init__(self) -> None:
        for one in self.series:
            if len(one) <= self.lookback:
                raise ValueError(
                    f"training.lookback = {self.lookback}, and the training part of series "
                    f"{one.name!r} has {len(one)} rows: no window has a value after it; give a "
                    f"lookback below {len(one)}"
                )

    def segments(self, generator: np.random.Generator | None = None) -> Iterator[Segment]:
        """One epoch.

        Args:
            generator: of the order, and of the row at which the first window of a series
                begins where the stride leaves a choice; None: the order of time.
        """
        targets = [multi_horizon(one.truth(self.targets), self.horizon) for one in self.series]
        starts = self._starts(generator)
        for first in range(0, len(starts), self.batch):
            rows = starts[first : first + self.batch]
            numbers = np.arange(first, first + len(rows))
            yield self._segment(rows, targets, numbers)

    def _starts(self, generator: np.random.Generator | None) -> NDArray[np.int64]:
        """Series and first row of each window, [windows, 2]."""
        starts = []
        for index, one in enumerate(self.series):
            choice = min(self.stride, len(one) - self.lookback)
            first = int(generator.integers(choice)) if generator is not None else 0
            rows = np.arange(first, len(one) - self.lookback, self.stride)
            starts.append(np.column_stack([np.full_like(rows, index), rows]))
        every = np.concatenate(starts)
        return every if generator is None else generator.permutation(every)

    def _segment(
        self,
        starts: NDArray[np.int64],
        targets: Sequence[NDArray[np.float64]],
        numbers: NDArray[np.int64],
    ) -> Segment:
        pieces = [(int(index), slice(row, row + self.lookback)) for index, row in starts]
        x = np.stack([self.series[index].values[rows] for index, rows in pieces])
        last = np.stack([targets[index][rows.stop - 1] for index, rows in pieces])
        y = np.full((len(pieces), self.lookback, *last.shape[1:]), np.nan, np.float32)
        y[:, -1] = last
        return Segment(
            x=torch.from_numpy(x.astype(np.float32)),
            y=torch.from_numpy(y),
            lengths=torch.full((len(pieces),), self.lookback),
            reset=torch.ones(len(pieces), dtype=torch.bool),
            stretch=torch.from_numpy(numbers),
        )
