"""A ridge regression on lagged values: the linear model that a network must beat.

Dimensions: L lags, N origins, horizon, K targets.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tidegate.train.data.lanes import multi_horizon

Values = NDArray[np.float64]

# Rows of the sums that are taken at a time; bounds the memory.
_ROWS = 4096


@dataclass(frozen=True)
class Ridge:
    """The next values of any series from its last L, both minus the last one.

    One model for all series and targets, on standardized values, so that all count alike.

    Attributes:
        weight: [L, horizon].
        bias: [horizon].
    """

    weight: Values
    bias: Values

    @classmethod
    def fit(
        cls, train: Sequence[Values], lookback: int, horizon: int, penalty: float = 1.0
    ) -> Self:
        """Solves (X'X + penalty I) w = X'Y over all windows of the training parts.

        Args:
            train: standardized values of each series, [rows]; a window with NaN takes no part.
            lookback: L.
            horizon: steps ahead.
            penalty: of the weights, not of the bias.

        Raises:
            ValueError: no series has a whole window.
        """
        gram = np.zeros((lookback + 1, lookback + 1))
        moment = np.zeros((lookback + 1, horizon))
        for x, y in _windows(train, lookback, horizon):
            gram += x.T @ x
            moment += x.T @ y
        if not gram.any():
            raise ValueError(
                f"lookback={lookback}, horizon={horizon}: no training part of "
                f"{max(map(len, train))} rows at most has a whole window; give a shorter lookback"
            )
        gram[np.arange(lookback), np.arange(lookback)] += penalty
        solved = np.linalg.solve(gram, moment).astype(np.float64)
        return cls(solved[:-1], solved[-1])

    @property
    def lookback(self) -> int:
        """L."""
        return len(self.weight)

    def predict(self, values: Values, origins: NDArray[np.int64]) -> Values:
        """Forecasts after some rows of a series, [N, horizon].

        Args:
            values: standardized, [rows].
            origins: last rows known, each with L - 1 rows before it.
        """
        lags = np.lib.stride_tricks.sliding_window_view(values, self.lookback)
        last = values[origins, None]
        forecast: Values = (lags[origins - self.lookback + 1] - last) @ self.weight
        return forecast + self.bias + last


def _windows(
    train: Sequence[Values], lookback: int, horizon: int
) -> Iterator[tuple[Values, Values]]:
    for values in train:
        if len(values) < lookback + horizon:
            continue
        lags = np.lib.stride_tricks.sliding_window_view(values[: len(values) - horizon], lookback)
        ahead = multi_horizon(values[:, None], horizon)[lookback - 1 : len(values) - horizon, :, 0]
        for start in range(0, len(lags), _ROWS):
            x, y = lags[start : start + _ROWS], ahead[start : start + _ROWS]
            known = ~(np.isnan(x).any(axis=1) | np.isnan(y).any(axis=1))
            last = x[known, -1:]
            ones = np.ones((int(known.sum()), 1))
            yield np.hstack([x[known] - last, ones]), y[known] - last
