"""A series from a CSV file: a `ds` column of times, and one column for each feature."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from tidegate.train.data.series import Series, check_ascending


def load_csv(
    path: str | Path, frequency: str, *, time_column: str = "ds", units: Mapping[str, str] = {}
) -> Series:
    """Reads a file and checks it; nothing is repaired in silence.

    Args:
        path: of the file; pandas unpacks ``.gz``.
        frequency: pandas' offset alias of the time between two rows.
        time_column: name of the column of times.
        units: units by feature name.

    Raises:
        ValueError: time is unsorted, doubled or has a gap, or a value is missing
            or no number; the text names the row (from 0) and its time.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"path={str(file)!r} is no file; give the path of a CSV file")
    frame = pd.read_csv(file)
    if time_column not in frame.columns:
        raise ValueError(
            f"{file} has no column {time_column!r} but {list(frame.columns)}; "
            f"name the column of times {time_column!r}"
        )
    times = pd.to_datetime(frame[time_column]).to_numpy().astype("datetime64[ns]")
    values = frame.drop(columns=time_column)
    if values.shape[1] == 0 or not len(frame):
        raise ValueError(f"{file} has no values; give at least one row and one column beside time")
    name = file.name.split(".")[0]
    check_ascending(name, times)
    _check_gaps(name, times, frequency)
    _check_values(name, times, values)
    return Series(
        name=name,
        timestamps=times,
        values=values.to_numpy(dtype=np.float64),
        features=tuple(values.columns),
        frequency=frequency,
        units=tuple(units.get(column, "") for column in values.columns),
    )


def _check_gaps(name: str, times: np.ndarray, frequency: str) -> None:
    offset = pd.tseries.frequencies.to_offset(frequency)
    expected = pd.DatetimeIndex(times[:-1]) + offset
    wrong = np.flatnonzero(expected.to_numpy().astype("datetime64[ns]") != times[1:])
    if wrong.size:
        row = int(wrong[0]) + 1
        raise ValueError(
            f"series {name!r}, row {row}, time {times[row]}: expected {expected[row - 1]} at "
            f"frequency={frequency!r}; fill the gap from the past or give the right frequency"
        )


def _check_values(name: str, times: np.ndarray, values: pd.DataFrame) -> None:
    for column in values.columns:
        numbers = pd.to_numeric(values[column], errors="coerce").to_numpy(dtype=np.float64)
        wrong = np.flatnonzero(~np.isfinite(numbers))
        if wrong.size:
            row = int(wrong[0])
            raise ValueError(
                f"series {name!r}, row {row}, time {times[row]}: {column} = "
                f"{values[column].iloc[row]!r} is no finite number; fill it from the past"
            )
