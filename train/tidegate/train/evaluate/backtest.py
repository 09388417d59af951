"""Forecasts of a past period, streamed through the state.

Dimensions: N origins, horizon, K targets, Q quantiles.

The model reads every observation once, in order, and forecasts at each: the
cost is O(T), not O(T x window), and the forecasts are those of a live stream.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tidegate.train.data.lanes import multi_horizon
from tidegate.train.data.series import Part, Series, SeriesSplit
from tidegate.train.forecaster import Forecaster
from tidegate.train.losses import LossName

# Observations of one call of the network, numbers in its answer, and series beside each
# other: they bound the memory, and change no result.
CHUNK = 512
_MOST_NUMBERS = 1 << 24
_MOST_SERIES = 64

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Backtest:
    """Forecasts of one series from every row of a part whose horizon lies within the part.

    Attributes:
        series: from its first row to the part's last.
        origins: rows of the series at which the forecasts were made, [N]; the
            value of that row was the last one known.
        quantiles: [N, horizon, K, Q].
        truth: [N, horizon, K]; NaN where no value was observed.
        targets: names of the K targets.
        levels: [Q].
        train_rows: rows of the series' training part, which scales and baselines are of.
    """

    series: Series
    origins: NDArray[np.int64]
    quantiles: NDArray[np.floating]
    truth: Values
    targets: tuple[str, ...]
    levels: tuple[float, ...]
    train_rows: int

    @property
    def horizon(self) -> int:
        """Steps ahead."""
        return int(self.truth.shape[1])

    @property
    def median(self) -> NDArray[np.floating]:
        """[N, horizon, K]."""
        return self.quantiles[..., self.levels.index(0.5)]

    @property
    def values(self) -> Values:
        """All that the series' targets were, filled where missing, [rows, K]."""
        return self.series.values[:, self.series.columns(self.targets)]

    @property
    def train(self) -> Values:
        """The targets in the training part, NaN where none was observed, [rows, K]."""
        return self.series.truth(self.series.columns(self.targets))[: self.train_rows]

    def loss(self, scale: Values, name: LossName = "pinball") -> float:
        """Mean loss of all quantiles in units of each target's scale, as in training.

        Args:
            scale: [K].
            name: of the loss.
        """
        error = (self.truth[..., None] - self.quantiles) / scale[:, None]
        if name == "squared":
            loss = error**2
        else:
            levels = np.asarray(self.levels)
            loss = np.maximum(levels * error, (levels - 1) * error)
        known = ~np.isnan(self.truth)
        return float(loss[known].mean()) if known.any() else 0.0


class _Span(NamedTuple):
    """What of one series is read, and from which row on forecasts are kept."""

    begin: int
    first: int
    last: int


def backtest(
    model: Forecaster, split: SeriesSplit, part: Part, warmup: int | None = None
) -> Backtest:
    """:func:`backtests` of one series."""
    return backtests(model, [split], part, warmup)[0]


def backtests(
    model: Forecaster, splits: Sequence[SeriesSplit], part: Part, warmup: int | None = None
) -> tuple[Backtest, ...]:
    """Streams series through the model and keeps the forecasts made in one part.

    The first origin is the last row before the part, so that the part's first
    value is forecast too; no target lies outside the part.

    Args:
        model: put into evaluation mode.
        splits: the series.
        part: which forecasts to keep.
        warmup: rows read before the part; None: all of them.

    Raises:
        ValueError: the part of a series is shorter than the horizon.
    """
    spans = [_span(split, part, model.horizon, warmup) for split in splits]
    values = [
        split.series.values[span.begin : span.last]
        for split, span in zip(splits, spans, strict=True)
    ]
    kept = [span.first - span.begin for span in spans]
    return tuple(
        _backtest(model, split, span, split.bounds(part)[1], quantiles)
        for split, span, quantiles in zip(splits, spans, stream(model, values, kept), strict=True)
    )


def stream(
    model: Forecaster, series: Sequence[Values], first: Sequence[int] = ()
) -> list[NDArray[np.float32]]:
    """The forecasts of each series, with the state carried from its first row.

    Args:
        model: put into evaluation mode.
        series: raw values of each, [rows, features].
        first: row of each series from which forecasts are kept; empty: all are.

    Returns:
        For each series [rows kept, horizon, K, Q].
    """
    kept = first or [0] * len(series)
    answers: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(series)
    # Series of about the same length go together, so that little is padding.
    order = sorted(range(len(series)), key=lambda index: len(series[index]))
    for start in range(0, len(order), _MOST_SERIES):
        group = order[start : start + _MOST_SERIES]
        together = _stream_together(model, [series[i] for i in group], [kept[i] for i in group])
        for index, answer in zip(group, together, strict=True):
            answers[index] = answer
    return answers


@torch.no_grad()
def _stream_together(
    model: Forecaster, series: Sequence[Values], first: Sequence[int]
) -> list[NDArray[np.float32]]:
    model.eval()
    device = model.target_scale.device
    rows = max(map(len, series))
    # What comes after the end of a shorter series reaches no forecast before it.
    padded = [np.pad(one, ((0, rows - len(one)), (0, 0)), mode="edge") for one in series]
    x = torch.from_numpy(np.stack(padded).astype(np.float32)).to(device)
    state = model.initial_state(len(series))
    numbers = model.horizon * len(model.format.targets) * len(model.quantile_levels)
    chunk = min(max(_MOST_NUMBERS // (numbers * len(series)), 1), CHUNK)
    parts: list[list[NDArray[np.float32]]] = [[] for _ in series]
    for start in range(0, rows, chunk):
        quantiles, state = model(x[:, start : start + chunk], None, state)
        answer = quantiles.cpu().numpy()
        for row, (one, keep) in enumerate(zip(series, first, strict=True)):
            stop = max(len(one) - start, 0)
            # A copy, so that what is not kept is freed.
            parts[row].append(answer[row, max(keep - start, 0) : stop].copy())
    return [np.concatenate(part) for part in parts]


def _span(split: SeriesSplit, part: Part, horizon: int, warmup: int | None) -> _Span:
    start, stop = split.bounds(part)
    first, last = max(start - 1, 0), stop - horizon
    if last <= first:
        raise ValueError(
            f"the {part} part of series {split.series.name!r} has {stop - start} rows, and "
            f"horizon={horizon}; make the part longer or the horizon shorter"
        )
    return _Span(0 if warmup is None else max(first - warmup, 0), first, last)


def _backtest(
    model: Forecaster, split: SeriesSplit, span: _Span, stop: int, quantiles: NDArray[np.float32]
) -> Backtest:
    series = split.series.rows(0, stop)
    truth = multi_horizon(series.truth(series.columns(model.format.targets)), model.horizon)
    return Backtest(
        series=series,
        origins=np.arange(span.first, span.last),
        quantiles=quantiles,
        truth=truth[span.first : span.last],
        targets=model.format.targets,
        levels=model.quantile_levels,
        train_rows=split.train_rows,
    )
