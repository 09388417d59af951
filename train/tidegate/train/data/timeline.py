"""Times of a table's rows: reading them, and where the next ones should be."""

import numpy as np
import pandas as pd

from tidegate.train.data.series import Timestamps
from tidegate.train.data.table import TableLayout


def read_times(frame: pd.DataFrame, layout: TableLayout) -> pd.Series:
    """Times of the rows, NaT or NaN where one cannot be read; times with an offset in UTC."""
    if not layout.time_column:
        return pd.Series(np.arange(len(frame)))
    given = frame[layout.time_column].reset_index(drop=True)
    if layout.counts_time:
        times = pd.to_numeric(given, errors="coerce")
        whole = times.where(times % 1 == 0)
        return whole if whole.isna().any() else whole.astype("int64")
    pattern = layout.time_format or "ISO8601"
    return pd.to_datetime(given, format=pattern, errors="coerce", utc=True).dt.tz_localize(None)


def expected_form(layout: TableLayout) -> str:
    """How times are to be written, in words."""
    if layout.counts_time:
        return "a whole number"
    return f"in time_format={layout.time_format!r}" if layout.time_format else "ISO 8601"


def times_between(times: pd.Series, layout: TableLayout) -> Timestamps:
    """Every time that there should be, from the first to the last."""
    first, last = times.iloc[0], times.iloc[-1]
    if layout.counts_time:
        return np.arange(first, last + 1, int(layout.frequency))
    return pd.date_range(first, last, freq=layout.frequency).as_unit("ns").to_numpy()


def next_times(times: pd.Series, layout: TableLayout) -> pd.Series:
    """The time one step after each."""
    if layout.counts_time:
        return times + int(layout.frequency)
    offset = pd.tseries.frequencies.to_offset(layout.frequency)
    return pd.Series(pd.DatetimeIndex(times) + offset)


def in_words(time: object) -> str:
    """A time as errors give it: midnight is a day."""
    return str(time).removesuffix(".000000000").removesuffix("T00:00:00").removesuffix(" 00:00:00")
