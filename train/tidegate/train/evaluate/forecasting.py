"""Scores of forecasts.

Dimensions: N origins, horizon, K targets, Q quantiles.
"""

import numpy as np
import pandas as pd
import utilsforecast.losses as ufl
from numpy.typing import NDArray

from tidegate.train.evaluate.backtest import Backtest
from tidegate.train.evaluate.baselines import last_value, season_length, seasonal_naive


def forecast_metrics(test: Backtest, season: int | None = None) -> dict[str, float]:
    """Scores over all origins, steps and targets.

    Args:
        test: from :func:`tidegate.train.evaluate.backtest.backtest`.
        season: rows of a season; None: by the series' frequency.

    Returns:
        ``mae`` of the median; ``weighted_quantile_loss`` (2 x pinball over the
        sum of |y|, mean over levels); ``coverage_80`` (for levels 0.1 and 0.9),
        the share of values within the outer quantiles;
        ``mae_last_value`` and ``mae_seasonal_naive`` of the baselines, and
        ``skill_last_value`` and ``skill_seasonal_naive``, 1 - MAE / MAE of the
        baseline: 0 is no better, 1 is perfect. Targets count alike.
    """
    frame = long_frame(test, season)
    models = ["median", "last_value", "seasonal_naive"]
    mae = ufl.mae(frame, models)[models].mean()
    quantiles = [f"q{level:g}" for level in test.levels]
    weighted = ufl.scaled_crps(frame, {"model": quantiles}, np.asarray(test.levels))
    metrics = {
        "mae": mae["median"],
        "weighted_quantile_loss": weighted["model"].mean(),
        "mae_last_value": mae["last_value"],
        "mae_seasonal_naive": mae["seasonal_naive"],
        "skill_last_value": skill(mae["median"], mae["last_value"]),
        "skill_seasonal_naive": skill(mae["median"], mae["seasonal_naive"]),
    }
    if len(test.levels) > 1:
        width = interval_percent(test.levels)
        frame = frame.rename(
            columns={quantiles[0]: f"model-lo-{width}", quantiles[-1]: f"model-hi-{width}"}
        )
        metrics[f"coverage_{width}"] = ufl.coverage(frame, ["model"], width)["model"].mean()
    return {name: float(value) for name, value in metrics.items()}


def by_horizon(test: Backtest, season: int | None = None) -> pd.DataFrame:
    """MAE of model and baselines for each step ahead, targets and origins together."""
    season = season or season_length(test.series.frequency)

    def mae(forecast: NDArray[np.float64]) -> NDArray[np.float64]:
        error: NDArray[np.float64] = np.abs(forecast - test.truth).mean(axis=(0, 2))
        return error

    return pd.DataFrame(
        {
            "step": np.arange(1, test.horizon + 1),
            "mae": mae(test.median),
            "mae_last_value": mae(last_value(test)),
            "mae_seasonal_naive": mae(seasonal_naive(test, season)),
        }
    )


def long_frame(test: Backtest, season: int | None = None) -> pd.DataFrame:
    """One row for each origin, step and target, as utilsforecast reads it.

    Columns: unique_id (the target), y, median, last_value, seasonal_naive, and
    one for each quantile, such as q0.1.
    """
    season = season or season_length(test.series.frequency)
    columns = {
        "unique_id": np.broadcast_to(np.asarray(test.targets, object), test.truth.shape).ravel(),
        "y": test.truth.ravel(),
        "median": test.median.ravel(),
        "last_value": last_value(test).ravel(),
        "seasonal_naive": seasonal_naive(test, season).ravel(),
    }
    for index, level in enumerate(test.levels):
        columns[f"q{level:g}"] = test.quantiles[..., index].ravel()
    return pd.DataFrame(columns)


def skill(mae: float, mae_baseline: float) -> float:
    """1 - MAE / MAE of the baseline; 0 against a baseline without error."""
    return 1.0 - mae / mae_baseline if mae_baseline > 0 else 0.0


def interval_percent(levels: tuple[float, ...]) -> int:
    """Nominal coverage of the outer quantiles in percent: 80 for 0.1 to 0.9."""
    return round(100 * (levels[-1] - levels[0]))
