"""Conformal calibration: quantiles moved until they hold on a part that was not learnt.

Dimensions: N values held out, horizon, K targets, Q quantiles.

Source: Romano, Patterson and Candes 2019, "Conformalized Quantile Regression",
arXiv 1905.03222, with each of the two bounds calibrated by itself (their theorem 2).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tidegate.train.data.series import SeriesSplit
from tidegate.train.evaluate.backtest import Backtest, backtests
from tidegate.train.forecaster import Forecaster

Values = NDArray[np.float64]


def calibrate(model: Forecaster, splits: Sequence[SeriesSplit], warmup: int | None = None) -> None:
    """Gives a trained forecaster the offsets that its validation parts ask for.

    Args:
        model: to calibrate; offsets it has are forgotten.
        splits: the series.
        warmup: rows read before the validation part; None: all of them.

    Raises:
        ValueError: the validation parts are too short.
    """
    model.offsets.zero_()
    offsets = conformal_offsets(backtests(model, splits, "validation", warmup))
    model.offsets.copy_(torch.from_numpy(offsets))


def conformal_offsets(tests: Sequence[Backtest]) -> Values:
    """What to add to each quantile so that it holds on held-out forecasts.

    For an upper level q the offset is the ceil((n + 1) q)-th smallest of the n
    distances y - quantile, for a lower one the floor((n + 1) q)-th. Where values
    to come are exchangeable with the n, a value is above an upper quantile with
    probability 1 - q at most, and below a lower one with q at most. Series drift,
    so this holds about as well as the part resembles what comes. The median stays.

    Args:
        tests: forecasts of the validation part, not calibrated, of any number of series;
            the distances of all are taken together.

    Returns:
        [horizon, K, Q], in raw units.

    Raises:
        ValueError: there are too few values for the outer levels.
    """
    levels = tests[0].levels
    distances = [test.truth[..., None] - test.quantiles for test in tests]
    together = np.concatenate(distances).astype(np.float64)
    offsets = np.zeros(together.shape[1:])
    for step, target in np.ndindex(together.shape[1:3]):
        known = together[:, step, target]
        known = known[~np.isnan(known[:, 0])]
        for index, level in enumerate(levels):
            if level != 0.5:
                offsets[step, target, index] = _offset(known[:, index], level)
    return offsets


def _offset(distances: Values, level: float) -> float:
    count = len(distances)
    # Rounded first: 0.1 * (99 + 1) is no more than 10.
    rank = round((count + 1) * level, 9)
    place = math.ceil(rank) if level > 0.5 else math.floor(rank)
    if not 1 <= place <= count:
        needed = math.ceil(round(1 / min(level, 1 - level), 9)) - 1
        raise ValueError(
            f"forecast.conformal = true with the quantile level {level:g}: {count} forecasts of "
            f"the validation part are too few, {needed} are needed; make that part longer or the "
            "level less extreme"
        )
    return float(np.sort(distances)[place - 1])
