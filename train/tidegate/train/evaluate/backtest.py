"""Forecasts of a past period, streamed through the state.

Dimensions: N origins, horizon, K targets, Q quantiles.

The model reads every observation once, in order, and forecasts at each: the
cost is O(T), not O(T x window), and the forecasts are those of a live stream.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tidegate.train.data.lanes import multi_horizon
from tidegate.train.data.series import Part, Series, SeriesSplit
from tidegate.train.forecaster import Forecaster

# Observations of one call of the network; bounds the memory, not the result.
CHUNK = 512

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Backtest:
    """Forecasts from every row of a part whose horizon lies within the series' part.

    Attributes:
        series: from its first row to the part's last.
        origins: rows of the series at which the forecasts were made, [N]; the
            value of that row was the last one known.
        quantiles: [N, horizon, K, Q].
        truth: [N, horizon, K].
        targets: names of the K targets.
        levels: [Q].
    """

    series: Series
    origins: NDArray[np.int64]
    quantiles: Values
    truth: Values
    targets: tuple[str, ...]
    levels: tuple[float, ...]

    @property
    def horizon(self) -> int:
        """Steps ahead."""
        return int(self.truth.shape[1])

    @property
    def median(self) -> Values:
        """[N, horizon, K]."""
        return self.quantiles[..., self.levels.index(0.5)]

    def loss(self, scale: Values) -> float:
        """Mean pinball loss in units of each target's scale, as in training.

        Args:
            scale: [K].
        """
        error = (self.truth[..., None] - self.quantiles) / scale[:, None]
        levels = np.asarray(self.levels)
        return float(np.maximum(levels * error, (levels - 1) * error).mean())


@torch.no_grad()
def backtest(
    model: Forecaster, split: SeriesSplit, part: Part, warmup: int | None = None
) -> Backtest:
    """Streams a series through the model and keeps the forecasts made in one part.

    The first origin is the last row before the part, so that the part's first
    value is forecast too; no target lies outside the part.

    Args:
        model: put into evaluation mode.
        split: the series.
        part: which forecasts to keep.
        warmup: rows read before the part; None: all of them.

    Raises:
        ValueError: the part is shorter than the horizon.
    """
    start, stop = split.bounds(part)
    first, last = max(start - 1, 0), stop - model.horizon
    if last <= first:
        raise ValueError(
            f"the {part} part of series {split.series.name!r} has {stop - start} rows, and "
            f"horizon={model.horizon}; make the part longer or the horizon shorter"
        )
    series = split.series.rows(0, stop)
    begin = 0 if warmup is None else max(first - warmup, 0)
    quantiles = stream(model, series.values[begin:last])[first - begin :]
    truth = multi_horizon(series.values[:, series.columns(model.format.targets)], model.horizon)
    return Backtest(
        series=series,
        origins=np.arange(first, last),
        quantiles=quantiles,
        truth=truth[first:last],
        targets=model.format.targets,
        levels=model.quantile_levels,
    )


@torch.no_grad()
def stream(model: Forecaster, values: Values) -> Values:
    """The forecast at every row, with the state carried from the first.

    Args:
        model: put into evaluation mode.
        values: raw, [rows, features].

    Returns:
        [rows, horizon, K, Q].
    """
    model.eval()
    x = torch.from_numpy(values.astype(np.float32))[None]
    state, parts = model.initial_state(1), []
    for chunk in torch.split(x, CHUNK, dim=1):
        quantiles, state = model(chunk, None, state)
        parts.append(quantiles[0].numpy().astype(np.float64))
    return np.concatenate(parts)
