"""Tables of series on disk: CSV or Parquet, and what their columns mean."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from tidegate.train.arguments import did_you_mean

Gaps = Literal["error", "insert", "keep"]
Missing = Literal["error", "ffill", "mark", "drop"]
Position = Literal["time_of_day", "day_of_week", "day_of_year"]

DEFAULT_ID, DEFAULT_TIME, DEFAULT_TARGET = "unique_id", "ds", "y"


@dataclass(frozen=True)
class TableLayout:
    """What the columns of a table are, and what to do about what is not there.

    Attributes:
        format: "long", a row for each series and time; "wide", a column for each series.
        columns: names of the columns of a file without a header; empty: it has one.
        id_column: names the series; None: ``unique_id`` where the table has it, else the
            table is one series, named after its file.
        time_column: of times; empty: rows are in order and numbered.
        time_format: of times, as strptime takes it; empty: ISO 8601.
        frequency: pandas' offset alias of the time between two rows; a whole number
            where the times are whole numbers.
        missing_values: texts that stand for a missing value, beside the usual ones.
        targets: columns to forecast; of a wide table its series. Empty: ``y`` where the
            table has it, else the first that holds values; of a wide table, all.
        hist_exog: columns known up to the present; None: every other one of a long table.
        futr_exog: columns known over the horizon; each row gets their next values too.
        stat_exog: columns of numbers that are the same in all rows of a series.
        cat_exog: columns of names, read as one indicator for each of the training part.
        calendar: positions of a row's time to read, each as sine and cosine.
        logarithms: columns read as their natural logarithm, so that changes are relative.
        units: by column.
        gaps: what to do where a row is not at the time expected: "error", "insert" the
            missing rows with missing values, or "keep", steps being rows.
        missing: what to do about missing values: "error", "ffill" them with the last value
            before, "mark" them beside that with an indicator column, or "drop" the row.
    """

    format: Literal["long", "wide"] = "long"
    columns: tuple[str, ...] = ()
    id_column: str | None = None
    time_column: str = DEFAULT_TIME
    time_format: str = ""
    frequency: str = "D"
    missing_values: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    hist_exog: tuple[str, ...] | None = None
    futr_exog: tuple[str, ...] = ()
    stat_exog: tuple[str, ...] = ()
    cat_exog: tuple[str, ...] = ()
    calendar: tuple[Position, ...] = ()
    logarithms: tuple[str, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    gaps: Gaps = "error"
    missing: Missing = "error"

    def __post_init__(self) -> None:
        if self.gaps == "insert" and self.missing not in ("ffill", "mark"):
            raise ValueError(
                f"dataset.gaps = 'insert' with missing = {self.missing!r}: what is inserted is "
                "missing; give missing = 'ffill' or 'mark', or gaps = 'keep'"
            )
        if self.calendar and self.counts_time:
            raise ValueError(
                f"dataset.calendar = {list(self.calendar)} of times that are whole numbers, which "
                "no calendar knows; leave it out"
            )

        if not self.frequency.isdigit():
            try:
                pd.tseries.frequencies.to_offset(self.frequency)
            except ValueError as error:
                raise ValueError(
                    f"dataset.frequency = {self.frequency!r} is no offset alias of pandas, such as "
                    "'h', 'D' or 'MS', and no whole number"
                ) from error

    @property
    def counts_time(self) -> bool:
        """Whether times are whole numbers."""
        return not self.time_column or self.frequency.isdigit()

    def feature(self, column: str) -> str:
        """The name of a column of values as a feature: logarithms say that they are some."""
        return f"log_{column}" if column in self.logarithms else column


@dataclass(frozen=True)
class Roles:
    """The columns of one table by what they are for.

    Attributes:
        id_column: None: the table is one series.
        values: targets and hist_exog, in the order of the table.
        targets: some of them.
    """

    id_column: str | None
    values: tuple[str, ...]
    targets: tuple[str, ...]


def read_table(path: str | Path, layout: TableLayout) -> pd.DataFrame:
    """Reads a table as it is; names, times and categories are not yet looked at.

    Args:
        path: of a CSV file (also ``.gz``) or, by its name, a Parquet file.
        layout: of the table.

    Raises:
        ValueError: there is no such file, or it is no table.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(
            f"path={str(file)!r} is no file; give the path of a CSV file or a Parquet file"
        )
    try:
        if file.suffix in (".parquet", ".pq"):
            return pd.read_parquet(file, engine="pyarrow")
        names = dict.fromkeys((*layout.cat_exog, layout.id_column or DEFAULT_ID), str)
        return pd.read_csv(
            file,
            header=None if layout.columns else 0,
            names=list(layout.columns) or None,
            na_values=list(layout.missing_values),
            dtype=names,
        )
    except (ValueError, OSError) as error:
        raise ValueError(f"path={str(file)!r} cannot be read as a table: {error}") from error


def find_roles(frame: pd.DataFrame, layout: TableLayout, file: str) -> Roles:
    """What each column of a table is for.

    Raises:
        ValueError: a column is not there, has two roles, or none holds values.
    """
    columns = list(map(str, frame.columns))
    id_column = layout.id_column
    if id_column is None and DEFAULT_ID in columns and layout.format == "long":
        id_column = DEFAULT_ID
    others = (*layout.futr_exog, *layout.stat_exog, *layout.cat_exog)
    keys = tuple(one for one in (id_column, layout.time_column) if one)
    free = [one for one in columns if one not in (*others, *keys)]
    targets = layout.targets
    if not targets and free:
        is_wide = layout.format == "wide"
        first = DEFAULT_TARGET if DEFAULT_TARGET in free else free[0]
        targets = tuple(free) if is_wide else (first,)
    hist = layout.hist_exog
    if hist is None:
        hist = () if layout.format == "wide" else tuple(one for one in free if one not in targets)
    named = (*keys, *targets, *hist, *others)
    for name in named:
        if name not in columns:
            raise ValueError(
                f"{file} has no column {name!r} but {columns}; {did_you_mean(name, columns)}"
                "name its columns in [dataset]"
            )
    for name in named:
        if named.count(name) > 1:
            raise ValueError(f"column {name!r} of {file} has two roles in [dataset]; give it one")
    for name in layout.logarithms:
        if name not in (*targets, *hist):
            raise ValueError(
                f"dataset.logarithms has {name!r}, which is neither in targets nor hist_exog; use "
                f"one of {', '.join((*targets, *hist))}"
            )
    if not targets or not len(frame):
        raise ValueError(f"{file} has no values; give at least one row and one column beside time")
    return Roles(id_column, tuple(one for one in columns if one in (*targets, *hist)), targets)


def melt(frame: pd.DataFrame, roles: Roles) -> tuple[pd.DataFrame, Roles]:
    """A wide table in long form: the name of each column becomes the name of a series."""
    keep = [
        name
        for name in frame.columns
        if name not in roles.targets  # covariates are those of every series
    ]
    long = frame.melt(
        id_vars=keep,
        value_vars=list(roles.targets),
        var_name=DEFAULT_ID,
        value_name=DEFAULT_TARGET,
        ignore_index=False,
    )
    hist = tuple(one for one in roles.values if one not in roles.targets)
    return long, Roles(DEFAULT_ID, (DEFAULT_TARGET, *hist), (DEFAULT_TARGET,))
