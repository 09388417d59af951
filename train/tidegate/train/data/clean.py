"""One series of a table: what is wrong in it, and what may be mended.

Nothing is mended in silence: order and doubled times are always refused, gaps
and missing values unless the layout says what to do about them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

import numpy as np
import pandas as pd

from tidegate.train.data.series import Timestamps
from tidegate.train.data.table import Roles, TableLayout


class SeriesProblem(NamedTuple):
    """What is wrong at one time of a series; rows of the table are counted from 0."""

    series: str
    row: int
    time: str
    text: str

    def __str__(self) -> str:
        return f"series {self.series!r}, row {self.row}, time {self.time}: {self.text}"


# Takes each problem; a series with problems is left out.
SeriesReport = Callable[[SeriesProblem], None]


def refuse(problem: SeriesProblem) -> NoReturn:
    """The usual report: reading ends at the first problem.

    Raises:
        ValueError: always.
    """
    raise ValueError(str(problem))


@dataclass(frozen=True)
class Cleaned:
    """A series in order of time, without a hole.

    Attributes:
        name: of the series.
        times: [rows].
        numbers: columns of numbers, all finite.
        observed: bool, of targets and hist_exog: whether a value was there.
        categories: columns of names.
    """

    name: str
    times: Timestamps
    numbers: pd.DataFrame
    observed: pd.DataFrame
    categories: pd.DataFrame


def clean(
    name: str,
    frame: pd.DataFrame,
    layout: TableLayout,
    roles: Roles,
    report: SeriesReport = refuse,
) -> Cleaned | None:
    """Checks a series and does what the layout says about gaps and missing values.

    Args:
        name: of the series.
        frame: its rows, with the table's row numbers as index.
        layout: of the table.
        roles: of the columns.
        report: gets every problem.

    Returns:
        None: there were problems.
    """
    return _Cleaning(name, frame, layout, roles, report).run()


class _Cleaning:
    """The steps of :func:`clean` on one series."""

    def __init__(
        self,
        name: str,
        frame: pd.DataFrame,
        layout: TableLayout,
        roles: Roles,
        report: SeriesReport,
    ) -> None:
        self.name, self.layout, self.roles = name, layout, roles
        self.frame, self.rows = frame, frame.index.to_numpy()
        self.times: pd.Series = pd.Series(dtype=object)
        self.report, self.problems = report, 0

    def run(self) -> Cleaned | None:
        self.times = self.read_times()
        if self.has_problems():
            return None
        columns = [*self.roles.values, *self.layout.futr_exog, *self.layout.stat_exog]
        numbers = self.read_numbers(columns)
        categories = self.frame[list(self.layout.cat_exog)]
        if self.has_problems():
            return None
        if self.layout.missing == "drop":
            whole = [columns.notna().all(axis=1).to_numpy() for columns in (numbers, categories)]
            keep = np.logical_and(*whole)
            numbers, categories = numbers[keep], categories[keep]
            self.times, self.rows = self.times[keep], self.rows[keep]
            if not len(numbers):
                self.problem(0, "no row is whole", row=0, time="-")
                return None
        numbers, categories = self.fill_gaps(numbers, categories)
        if self.has_problems():
            return None
        observed = numbers[list(self.roles.values)].notna()
        numbers, categories = self.fill_missing(numbers), self.fill_missing(categories)
        self.check_static(numbers)
        numbers = self.take_logarithms(numbers)
        if self.has_problems():
            return None
        times = numbers.index.to_numpy()
        if not self.layout.counts_time:
            times = times.astype("datetime64[ns]")
        names = {name: self.layout.feature(name) for name in self.layout.logarithms}
        return Cleaned(
            self.name,
            times,
            numbers.rename(columns=names),
            observed.rename(columns=names),
            categories,
        )

    def has_problems(self) -> bool:
        """Whether any was reported."""
        return self.problems > 0

    def problem(self, at: int, text: str, *, row: int | None = None, time: str = "") -> None:
        """Reports what is wrong at a position of the series."""
        self.problems += 1
        row = int(self.rows[at]) if row is None else row
        time = time or str(self.times.iloc[at]).removesuffix(" 00:00:00")
        self.report(SeriesProblem(self.name, row, time, text))

    def read_times(self) -> pd.Series:
        """Times in ascending order, one for each row."""
        layout = self.layout
        if not layout.time_column:
            return pd.Series(np.arange(len(self.frame)))
        given = self.frame[layout.time_column]
        if layout.counts_time:
            times = pd.to_numeric(given, errors="coerce")
            times = times.where(times % 1 == 0)
        else:
            pattern = layout.time_format or "ISO8601"
            times = pd.to_datetime(given, format=pattern, errors="coerce", utc=True)
            times = times.dt.tz_localize(None)
        times = times.reset_index(drop=True)
        for at in np.flatnonzero(times.isna()):
            expected = (
                f"in time_format={layout.time_format!r}" if layout.time_format else "ISO 8601"
            )
            expected = "a whole number" if layout.counts_time else expected
            text = f"{layout.time_column} is not {expected}; correct it, or the settings"
            self.problem(int(at), text, time=repr(given.iloc[at]))
        if not self.has_problems():
            self.times = times
            self.check_order(times)
        return times.astype("int64") if layout.counts_time and not self.has_problems() else times

    def check_order(self, times: pd.Series) -> None:
        """Time only goes forward."""
        values = times.to_numpy()
        for at in np.flatnonzero(values[1:] <= values[:-1]) + 1:
            if values[at] == values[at - 1]:
                self.problem(int(at), "the time is a duplicate; keep one row for each time")
            else:
                text = f"comes after {times.iloc[at - 1]}: unsorted; sort the rows by time"
                self.problem(int(at), text)

    def read_numbers(self, columns: list[str]) -> pd.DataFrame:
        """Columns of finite numbers; NaN where missing and something is to be done about it."""
        numbers = {}
        for column in columns:
            given = self.frame[column]
            values = pd.to_numeric(given, errors="coerce").to_numpy(dtype=np.float64)
            is_missing = given.isna().to_numpy()
            wrong = ~np.isfinite(values) & ~is_missing
            if self.layout.missing == "error":
                wrong |= is_missing
            for at in np.flatnonzero(wrong):
                value = "missing" if is_missing[at] else f"{given.iloc[at]!r}, no finite number"
                remedy = (
                    "name what to do about it in dataset.missing"
                    if is_missing[at]
                    else "correct it, or name it in dataset.missing_values"
                )
                self.problem(int(at), f"{column} is {value}; {remedy}")
            numbers[column] = values
        return pd.DataFrame(numbers)

    def fill_gaps(
        self, numbers: pd.DataFrame, categories: pd.DataFrame
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Rows at every time, the missing ones without values; index is the time."""
        times = self.times.to_numpy()
        numbers, categories = numbers.set_axis(times), categories.set_axis(times)
        if self.layout.gaps == "keep" or not self.layout.time_column:
            return numbers, categories
        grid = self.grid()
        if len(grid) == len(times) and bool((grid == times).all()):
            return numbers, categories
        if self.layout.gaps == "error":
            self.report_gaps(times)
            return numbers, categories
        for at in np.flatnonzero(~np.isin(times, grid)):
            text = (
                f"is no whole number of steps of frequency={self.layout.frequency!r} after "
                f"{self.times.iloc[0]}; correct the time or the frequency"
            )
            self.problem(int(at), text)
        return numbers.reindex(grid), categories.reindex(grid)

    def grid(self) -> np.ndarray:
        """The times that there should be."""
        first, last = self.times.iloc[0], self.times.iloc[-1]
        if self.layout.counts_time:
            step = int(self.layout.frequency)
            return np.arange(first, last + 1, step)
        return pd.date_range(first, last, freq=self.layout.frequency).as_unit("ns").to_numpy()

    def report_gaps(self, times: np.ndarray) -> None:
        """Names every time that does not follow the one before by one step."""
        if self.layout.counts_time:
            expected = times[:-1] + int(self.layout.frequency)
        else:
            offset = pd.tseries.frequencies.to_offset(self.layout.frequency)
            expected = (pd.DatetimeIndex(times[:-1]) + offset).to_numpy()
        wrong = np.flatnonzero(expected != times[1:])
        for at in wrong:
            text = (
                f"expected {pd.Series(expected).iloc[at]} at frequency={self.layout.frequency!r}; "
                "give the right frequency, or say in dataset.gaps what to do about gaps"
            )
            self.problem(int(at) + 1, text)
        if not wrong.size:
            text = f"is no time of frequency={self.layout.frequency!r}; give the right one"
            self.problem(0, text)

    def fill_missing(self, columns: pd.DataFrame) -> pd.DataFrame:
        """The last value before; nothing of the future is known."""
        filled = columns.ffill()
        for column in filled.columns[filled.isna().any()]:
            text = (
                f"{column} is missing, and no earlier value can stand for it; begin the series "
                "later, or give dataset.missing = 'drop'"
            )
            self.problem(0, text)
        return filled

    def check_static(self, numbers: pd.DataFrame) -> None:
        """What is static does not change."""
        for column in self.layout.stat_exog:
            values = numbers[column].to_numpy()
            for at in np.flatnonzero(values[1:] != values[:-1])[:1] + 1:
                text = (
                    f"{column} changes from {values[at - 1]} to {values[at]}, and is in "
                    "dataset.stat_exog; make it hist_exog or futr_exog"
                )
                self.problem(0, text, row=int(at), time=str(numbers.index[int(at)]))

    def take_logarithms(self, numbers: pd.DataFrame) -> pd.DataFrame:
        """Natural logarithms in place of what the layout names."""
        numbers = numbers.copy()
        for column in self.layout.logarithms:
            values = numbers[column].to_numpy()
            for at in np.flatnonzero(values <= 0):
                text = f"{column} is {values[at]}, which has no logarithm; leave out logarithms"
                self.problem(0, text, row=int(at), time=str(numbers.index[int(at)]))
            numbers[column] = np.log(values, where=values > 0, out=np.full(len(values), np.nan))
        return numbers
