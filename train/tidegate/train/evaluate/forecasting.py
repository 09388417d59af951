"""Scores of forecasts, beside those of what any model must beat.

Dimensions: N origins, horizon, K targets, Q quantiles.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import utilsforecast.losses as ufl
from numpy.typing import NDArray

from tidegate.train.evaluate.backtest import Backtest
from tidegate.train.evaluate.baselines import last_value, season_length, seasonal_naive
from tidegate.train.evaluate.ridge import Ridge

Values = NDArray[np.floating]

MODEL = "median"

# Rows of one frame; bounds the memory.
_MOST_ROWS = 1 << 20


@dataclass(frozen=True)
class ForecastScores:
    """What forecasts came to.

    Attributes:
        by_series: a row for each target of each series. ``windows`` counts the
            forecasts; ``mae``, ``mse``, ``smape`` (0 to 1) and ``mase`` are of the median,
            ``weighted_quantile_loss`` is 2 x pinball over the sum of abs(y), mean over
            levels, and ``coverage_80`` (for levels 0.1 and 0.9) the share of values within
            the outer quantiles. ``_standardised`` errors are in units of the target's
            standard deviation in the training part. A baseline's stand under its name:
            ``mae_ridge``. ``direction`` is the share of values whose rise or fall from the
            last one known the median tells, ``direction_always_up`` the share that rose.
        by_horizon: a row for each step ahead; mean over series and targets.
    """

    by_series: pd.DataFrame
    by_horizon: pd.DataFrame
    baselines: tuple[str, ...]

    @property
    def metrics(self) -> dict[str, float]:
        """The means over all series and targets, which count alike.

        ``skill_ridge`` is 1 - MAE / MAE of the ridge, both standardised: 0 is no better, 1
        is perfect.
        """
        table = self.by_series.drop(columns=["unique_id", "windows"])
        metrics = {str(name): float(value) for name, value in table.mean().items()}
        for name in self.baselines:
            metrics[f"skill_{name}"] = skill(
                metrics["mae_standardised"], metrics[f"mae_standardised_{name}"]
            )
        return metrics


def score(
    tests: Sequence[Backtest], season: int | None = None, ridge_lookback: int | None = None
) -> ForecastScores:
    """Scores backtests beside the last value, the value a season ago, and a ridge.

    Origins with less past than a baseline needs are left out for all.

    Args:
        tests: from :func:`tidegate.train.evaluate.backtest.backtests`.
        season: rows of a season; None: by the series' frequency.
        ridge_lookback: values that the ridge reads; None: two seasons, or less where the
            training parts are short; 0: there is no ridge.

    Raises:
        ValueError: no origin has enough past, or no window fits the training part.
    """
    season = season or season_length(tests[0].series.frequency)
    ridge = _fit_ridge(tests, _lookback(tests, season, ridge_lookback))
    tables, steps = [], []
    for group in _groups(column for test in tests for column in columns(test, season, ridge)):
        tables.append(_by_series(group, season))
        steps += [_steps(column) for column in group]
    by_horizon = sum(steps[1:], steps[0]) / len(steps)
    by_horizon.insert(0, "step", np.arange(1, len(by_horizon) + 1))
    baselines = ("last_value", "seasonal_naive", *(["ridge"] if ridge else []))
    return ForecastScores(pd.concat(tables, ignore_index=True), by_horizon, baselines)


@dataclass(frozen=True)
class Column:
    """The forecasts of one target of one series.

    Attributes:
        unique_id: the series, and the target if there are several.
        truth: [N, horizon].
        points: of the median and of each baseline, [N, horizon].
        quantiles: [N, horizon, Q].
        levels: [Q].
        train: [rows].
        scale: standard deviation of the training part.
    """

    unique_id: str
    truth: Values
    points: Mapping[str, Values]
    quantiles: Values
    levels: tuple[float, ...]
    train: Values
    scale: float


def columns(test: Backtest, season: int, ridge: Ridge | None) -> Iterator[Column]:
    """One for each target, with the forecasts of the baselines."""
    past = max(season, ridge.lookback if ridge else 1)
    keep = test.origins >= past - 1
    if not keep.any():
        raise ValueError(
            f"season={season} or the ridge's lookback is longer than the {test.origins[-1] + 1} "
            f"rows before the last forecast of series {test.series.name!r}; give a shorter one"
        )
    origins, values, train = test.origins[keep], test.values, test.train
    median = test.median
    # One target at a time: the quantiles of all are too large to copy for each.
    for index, target in enumerate(test.targets):
        one = values[:, index : index + 1]
        center, scale = _standard(train[:, index])
        points = {
            MODEL: median[..., index][keep],
            "last_value": last_value(one, origins, test.horizon)[..., 0],
            "seasonal_naive": seasonal_naive(one, origins, test.horizon, season)[..., 0],
        }
        if ridge:
            forecast = ridge.predict((one[:, 0] - center) / scale, origins)
            points["ridge"] = forecast * scale + center
        name = test.series.name
        yield Column(
            unique_id=name if len(test.targets) == 1 else f"{name}/{target}",
            truth=test.truth[..., index][keep],
            points=points,
            quantiles=test.quantiles[:, :, index][keep],
            levels=test.levels,
            train=train[:, index],
            scale=scale,
        )


def long_frame(column: Column) -> pd.DataFrame:
    """One row for each origin and step with a truth, as utilsforecast reads it.

    Columns: unique_id, y, one for each point forecast, and one for each quantile,
    such as q0.1.
    """
    frame = {"y": column.truth.ravel()}
    frame |= {name: values.ravel() for name, values in column.points.items()}
    for index, level in enumerate(column.levels):
        frame[f"q{level:g}"] = column.quantiles[..., index].ravel()
    table = pd.DataFrame(frame).dropna(subset=["y"]).reset_index(drop=True)
    table.insert(0, "unique_id", column.unique_id)
    return table


def skill(mae: float, mae_baseline: float) -> float:
    """1 - MAE / MAE of the baseline; 0 against a baseline without error."""
    return 1.0 - mae / mae_baseline if mae_baseline > 0 else 0.0


def interval_percent(levels: tuple[float, ...]) -> int:
    """Nominal coverage of the outer quantiles in percent: 80 for 0.1 to 0.9."""
    return round(100 * (levels[-1] - levels[0]))


def _groups(every: Iterable[Column]) -> Iterator[list[Column]]:
    """Columns that are scored in one frame: a call of utilsforecast costs as much for one."""
    group: list[Column] = []
    for column in every:
        group.append(column)
        if sum(one.truth.size for one in group) >= _MOST_ROWS:
            yield group
            group = []
    if group:
        yield group


def _by_series(group: Sequence[Column], season: int) -> pd.DataFrame:
    """The scores of some targets, a row for each."""
    frame = pd.concat([long_frame(column) for column in group], ignore_index=True)
    train = pd.concat([_train_frame(column) for column in group], ignore_index=True)
    names, levels = list(group[0].points), group[0].levels
    quantiles = [f"q{level:g}" for level in levels]
    errors = {
        "mae": ufl.mae(frame, names),
        "mse": ufl.mse(frame, names),
        "smape": ufl.smape(frame, names),
        # Scaled by the seasonal naive error within the training part.
        "mase": ufl.mase(frame, names, seasonality=season, train_df=train),
    }
    ids = [column.unique_id for column in group]
    scale = np.array([column.scale for column in group])
    # In the order of the series, whatever that of the library.
    ordered = {name: table.set_index("unique_id").reindex(ids) for name, table in errors.items()}
    scores: dict[str, object] = {"unique_id": ids, "windows": [len(one.truth) for one in group]}
    for name in names:
        suffix = "" if name == MODEL else f"_{name}"
        for metric, table in ordered.items():
            scores[f"{metric}{suffix}"] = table[name].to_numpy()
        scores[f"mae_standardised{suffix}"] = ordered["mae"][name].to_numpy() / scale
        scores[f"mse_standardised{suffix}"] = ordered["mse"][name].to_numpy() / scale**2
    scores |= _directions(frame, ids)
    others = {
        "weighted_quantile_loss": ufl.scaled_crps(frame, {MODEL: quantiles}, np.asarray(levels))
    }
    if len(levels) > 1:
        width = interval_percent(levels)
        low, high = f"{MODEL}-lo-{width}", f"{MODEL}-hi-{width}"
        bounds = frame.rename(columns={quantiles[0]: low, quantiles[-1]: high})
        others[f"coverage_{width}"] = ufl.coverage(bounds, [MODEL], width)
    for name, table in others.items():
        scores[name] = table.set_index("unique_id")[MODEL].reindex(ids).to_numpy()
    return pd.DataFrame(scores)


def _train_frame(column: Column) -> pd.DataFrame:
    known = column.train[~np.isnan(column.train)]
    return pd.DataFrame({"unique_id": column.unique_id, "y": known})


def _directions(frame: pd.DataFrame, ids: Sequence[str]) -> dict[str, Values]:
    """Shares of the changes that the median, and always a rise, tell; no change counts not."""
    change = np.sign(frame["y"] - frame["last_value"])
    told = np.sign(frame[MODEL] - frame["last_value"])
    moved = change != 0
    by_series = frame["unique_id"][moved]
    right = {"direction": (told == change)[moved], "direction_always_up": (change > 0)[moved]}
    return {
        name: share.groupby(by_series).mean().reindex(ids).to_numpy(dtype=np.float64)
        for name, share in right.items()
    }


def _steps(column: Column) -> pd.DataFrame:
    """Errors and coverage of each step ahead, mean over origins."""
    known = ~np.isnan(column.truth)
    count = np.maximum(known.sum(axis=0), 1)

    def mean(values: Values) -> Values:
        averaged: Values = np.where(known, values, 0.0).sum(axis=0) / count
        return averaged

    table = {}
    for name, forecast in column.points.items():
        suffix = "" if name == MODEL else f"_{name}"
        error = np.abs(forecast - column.truth)
        table[f"mae{suffix}"] = mean(error)
        table[f"mse_standardised{suffix}"] = mean((error / column.scale) ** 2)
    if len(column.levels) > 1:
        low, high = column.quantiles[..., 0], column.quantiles[..., -1]
        is_within = (low <= column.truth) & (column.truth <= high)
        table[f"coverage_{interval_percent(column.levels)}"] = mean(is_within.astype(float))
    return pd.DataFrame(table)


def _standard(train: Values) -> tuple[float, float]:
    """Mean and standard deviation; a constant series is left in its own unit."""
    return float(np.nanmean(train)), float(np.nanstd(train)) or 1.0


def _lookback(tests: Sequence[Backtest], season: int, asked: int | None) -> int:
    if asked is not None:
        return asked
    longest = max(test.train_rows for test in tests)
    return max(min(2 * season, (longest - tests[0].horizon) // 2), 0)


def _fit_ridge(tests: Sequence[Backtest], lookback: int) -> Ridge | None:
    if lookback == 0:
        return None
    parts = []
    for test in tests:
        for train in test.train.T:
            center, scale = _standard(train)
            parts.append((train - center) / scale)
    return Ridge.fit(parts, lookback, tests[0].horizon)
