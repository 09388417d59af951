"""One series of a table: what is wrong in it, and what may be mended.

Nothing is mended in silence: order and doubled times are always refused, gaps
and missing values unless the layout says what to do about them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tidegate.train.data.series import Timestamps
from tidegate.train.data.table import Roles, TableLayout
from tidegate.train.data.timeline import (
    expected_form,
    in_words,
    next_times,
    read_times,
    times_between,
)


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
        self.name, self.layout, self.roles, self.report = name, layout, roles, report
        self.frame, self.rows = frame, frame.index.to_numpy()
        self.times = read_times(frame, layout)
        self.problems = 0

    def run(self) -> Cleaned | None:
        """The series, or None where anything was reported."""
        self.check_times()
        if self.has_problems():
            return None
        numbers, categories = self.read_numbers(), self.read_categories()
        if self.has_problems():
            return None
        if self.layout.missing == "drop":
            numbers, categories = self.drop_missing(numbers, categories)
        if self.has_problems():
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

    def problem(self, at: int, text: str, time: str = "") -> None:
        """Reports what is wrong in a row of the series."""
        self.problems += 1
        time = time or in_words(self.times.iloc[at])
        self.report(SeriesProblem(self.name, int(self.rows[at]), time, text))

    def problem_when(self, time: Any, text: str) -> None:  # noqa: ANN401 - a date or a number
        """Reports what is wrong at a time, which gaps may have put between two rows."""
        at = int(self.times.searchsorted(time, side="right")) - 1
        self.problem(at, text, in_words(time))

    def check_times(self) -> None:
        """Every time can be read, and time only goes forward."""
        for at in np.flatnonzero(self.times.isna()):
            text = f"{self.layout.time_column} is not {expected_form(self.layout)}; correct it"
            given = self.frame[self.layout.time_column].iloc[at]
            self.problem(int(at), f"{text}, or the settings", repr(given))
        if self.has_problems():
            return
        values = self.times.to_numpy()
        for at in np.flatnonzero(values[1:] <= values[:-1]) + 1:
            if values[at] == values[at - 1]:
                self.problem(int(at), "the time is a duplicate; keep one row for each time")
            else:
                before = in_words(self.times.iloc[at - 1])
                self.problem(int(at), f"comes after {before}: unsorted; sort the rows by time")

    def read_numbers(self) -> pd.DataFrame:
        """Columns of finite numbers; NaN where missing and something is to be done about it."""
        numbers = {}
        for column in (*self.roles.values, *self.layout.futr_exog, *self.layout.stat_exog):
            given = self.frame[column]
            values = pd.to_numeric(given, errors="coerce").to_numpy(dtype=np.float64)
            self.check_values(column, ~np.isfinite(values))
            numbers[column] = values
        return pd.DataFrame(numbers, index=np.arange(len(self.frame)))

    def read_categories(self) -> pd.DataFrame:
        """Columns of names."""
        for column in self.layout.cat_exog:
            self.check_values(column, self.frame[column].isna().to_numpy())
        return self.frame[list(self.layout.cat_exog)].reset_index(drop=True)

    def check_values(self, column: str, unread: NDArray[np.bool_]) -> None:
        """Names what cannot be read; what is missing, unless something is to be done about it."""
        given = self.frame[column]
        for at in np.flatnonzero(unread):
            if given.notna().iloc[at]:
                text = f"{column} is {given.iloc[at]!r}, no finite number; correct it"
                self.problem(int(at), f"{text}, or name it in dataset.missing_values")
            elif self.layout.missing == "error":
                text = f"{column} is missing; say in dataset.missing what to do about it"
                self.problem(int(at), text)

    def drop_missing(
        self, numbers: pd.DataFrame, categories: pd.DataFrame
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The rows with every value."""
        whole = numbers.notna().all(axis=1) & categories.notna().all(axis=1)
        if not whole.any():
            self.problem(0, "the series has no row with every value; leave it out")
            return numbers, categories
        self.times, self.rows = self.times[whole], self.rows[whole.to_numpy()]
        return numbers[whole], categories[whole]

    def fill_gaps(
        self, numbers: pd.DataFrame, categories: pd.DataFrame
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Rows at every time, the missing ones without values; the index is the time."""
        times = self.times.to_numpy()
        numbers, categories = numbers.set_axis(times), categories.set_axis(times)
        if self.layout.gaps == "keep" or not self.layout.time_column:
            return numbers, categories
        wanted = times_between(self.times, self.layout)
        if np.array_equal(wanted, times):
            return numbers, categories
        if self.layout.gaps == "error":
            self.report_gaps()
            return numbers, categories
        for at in np.flatnonzero(~np.isin(times, wanted)):
            text = (
                f"is no whole number of steps of frequency={self.layout.frequency!r} after "
                f"{in_words(self.times.iloc[0])}; correct the time or the frequency"
            )
            self.problem(int(at), text)
        return numbers.reindex(wanted), categories.reindex(wanted)

    def report_gaps(self) -> None:
        """Names every time that does not follow the one before by one step."""
        expected = next_times(self.times, self.layout)
        wrong = np.flatnonzero(expected.to_numpy()[:-1] != self.times.to_numpy()[1:])
        frequency = f"frequency={self.layout.frequency!r}"
        for at in wrong:
            text = (
                f"expected {in_words(expected.iloc[at])} at {frequency}; give the right frequency, "
                "or say in dataset.gaps what to do about gaps"
            )
            self.problem(int(at) + 1, text)
        if not wrong.size:
            self.problem(0, f"is no time of {frequency}; give the right one")

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
                self.problem_when(numbers.index[int(at)], text)

    def take_logarithms(self, numbers: pd.DataFrame) -> pd.DataFrame:
        """Natural logarithms in place of what the layout names."""
        numbers = numbers.copy()
        for column in self.layout.logarithms:
            values = numbers[column].to_numpy()
            for at in np.flatnonzero(values <= 0):
                text = f"{column} is {values[at]}, which has no logarithm; leave out logarithms"
                self.problem_when(numbers.index[int(at)], text)
            numbers[column] = np.log(values, where=values > 0, out=np.full(len(values), np.nan))
        return numbers
