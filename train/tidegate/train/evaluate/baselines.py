"""Forecasts that any model must beat.

Dimensions: N origins, horizon, K targets.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Values = NDArray[np.float64]
Rows = NDArray[np.int64]

YEAR = pd.Timedelta(days=365.2425)
# What a season is, by the time between two rows: the longest that fits.
_DAY, _WEEK = pd.Timedelta(days=1), pd.Timedelta(days=7)


def last_value(values: Values, origins: Rows, horizon: int) -> Values:
    """Repeats the last value known, [N, horizon, K].

    Args:
        values: of the targets, [rows, K].
        origins: last rows known, [N].
        horizon: steps ahead.
    """
    return values[origins][:, None].repeat(horizon, axis=1)


def seasonal_naive(values: Values, origins: Rows, horizon: int, season: int) -> Values:
    """Repeats the value one season before each target, [N, horizon, K].

    Seasons are counted back until the value was known at the origin. For
    weekly rows and a season of 52 this is last year's week.

    Args:
        values: of the targets, [rows, K].
        origins: last rows known, [N].
        horizon: steps ahead.
        season: rows of a season.

    Raises:
        ValueError: the first origin has no whole season before it.
    """
    first = int(origins[0])
    if first + 1 < season:
        raise ValueError(
            f"season={season} is longer than the {first + 1} rows before the first forecast; "
            "give a shorter season"
        )
    steps = np.arange(1, horizon + 1)
    back = -(-steps // season) * season
    repeated: Values = values[origins[:, None] + steps - back]
    return repeated


def season_length(frequency: str) -> int:
    """Rows of a season by the time between two rows.

    A day for rows closer than a day, a week for daily rows, and a year for
    rows farther apart.

    Args:
        frequency: pandas' offset alias, such as "h", "D", "W-SAT" or "MS"; a whole
            number, which tells nothing of seasons, gives 1.

    Returns:
        At least 1.
    """
    if frequency.isdigit():
        return 1
    moment = pd.Timestamp("2001-01-06")
    offset = pd.tseries.frequencies.to_offset(frequency)
    # Over many steps, since months differ.
    step = (moment + 1200 * offset - moment) / 1200
    season = _DAY if step < _DAY else _WEEK if step < _WEEK else YEAR
    return max(round(season / step), 1)
