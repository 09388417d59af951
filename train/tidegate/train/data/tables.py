"""From a table to a panel: the columns that a network reads of each series.

A row of a stream holds all that the network is told at that time, in this order:
targets and hist_exog, an indicator for each of them if missing values are marked,
futr_exog now and at each step of the horizon, stat_exog, an indicator for each
category, and positions of the calendar.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tidegate.train.data.calendar import position
from tidegate.train.data.clean import Cleaned, SeriesReport, clean, refuse
from tidegate.train.data.panel import Panel
from tidegate.train.data.series import Series
from tidegate.train.data.split import Cuts, split_panel
from tidegate.train.data.table import Roles, TableLayout, find_roles, melt, read_table

# More names in one column are no categories; a network would get a column for each.
MOST_CATEGORIES = 256


class Column(NamedTuple):
    """One feature of one series: name, values [rows], unit, and whether it is 0 or 1."""

    name: str
    values: NDArray[np.float64]
    unit: str = ""
    is_indicator: bool = False


def load_panel(
    path: str | Path,
    layout: TableLayout,
    cuts: Cuts,
    horizon: int = 1,
    report: SeriesReport = refuse,
) -> Panel:
    """Reads the series of a table and cuts them in time.

    Args:
        path: of a CSV or Parquet file.
        layout: of the table.
        cuts: where the parts end.
        horizon: steps over which futr_exog is known.
        report: gets every problem; series with problems are left out.

    Raises:
        ValueError: the table has no such columns, or no series without problems.
    """
    file = Path(path)
    frame = read_table(file, layout)
    roles = find_roles(frame, layout, str(file))
    if layout.format == "wide":
        frame, roles = melt(frame, roles)
    parts = _by_series(frame, roles, file)
    cleaned = [
        one for name, rows in parts if (one := clean(name, rows, layout, roles, report)) is not None
    ]
    if not cleaned:
        raise ValueError(f"{file} has no series without problems; correct them")
    return build_panel(cleaned, layout, roles, cuts, horizon)


def build_panel(
    cleaned: Sequence[Cleaned], layout: TableLayout, roles: Roles, cuts: Cuts, horizon: int
) -> Panel:
    """The features of clean series, cut in time.

    Only the training part says which categories there are.

    Raises:
        ValueError: the cuts do not fit, or there are too many categories.
    """
    bare = split_panel([_series(one, layout, _values(one, layout)) for one in cleaned], cuts)
    trained = [len(part) for part in bare.train]
    known = {
        name: _categories(
            name, [one.categories[name][:rows] for one, rows in zip(cleaned, trained, strict=True)]
        )
        for name in layout.cat_exog
    }
    marks = roles.values if layout.missing == "mark" else ()
    series = [
        _series(
            one,
            layout,
            [
                *_values(one, layout),
                *_marks(one, len(marks)),
                *_future(one, layout, horizon),
                *(Column(name, _array(one.numbers[name])) for name in layout.stat_exog),
                *_indicators(one, known),
                *_calendar(one, layout),
            ],
        )
        for one in cleaned
    ]
    return split_panel(series, cuts, [layout.feature(name) for name in roles.targets])


def _by_series(frame: pd.DataFrame, roles: Roles, file: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    if roles.id_column is None:
        yield file.name.split(".")[0], frame
        return
    ids = frame[roles.id_column]
    if ids.isna().any():
        row = int(np.argmax(ids.isna().to_numpy()))
        raise ValueError(f"{file}, row {row}: {roles.id_column} is missing; name the series")
    for name, rows in frame.groupby(ids.astype(str), sort=False):
        yield str(name), rows


def _series(one: Cleaned, layout: TableLayout, columns: Sequence[Column]) -> Series:
    width = len(columns) - one.observed.shape[1]
    observed = np.pad(one.observed.to_numpy(dtype=bool), ((0, 0), (0, width)), constant_values=True)
    return Series(
        name=one.name,
        timestamps=one.times,
        values=np.column_stack([column.values for column in columns]),
        features=tuple(column.name for column in columns),
        frequency=layout.frequency,
        units=tuple(column.unit for column in columns),
        observed=None if observed.all() else observed,
        indicators=frozenset(column.name for column in columns if column.is_indicator),
    )


def _values(one: Cleaned, layout: TableLayout) -> list[Column]:
    return [
        Column(str(name), _array(one.numbers[name]), layout.units.get(str(name), ""))
        for name in one.observed.columns
    ]


def _marks(one: Cleaned, count: int) -> list[Column]:
    return [
        Column(f"{name}_missing", 1.0 - _array(one.observed[name]), is_indicator=True)
        for name in one.observed.columns[:count]
    ]


def _future(one: Cleaned, layout: TableLayout, horizon: int) -> Iterator[Column]:
    """Now, then at each step ahead; past the end the last value known."""
    for name in layout.futr_exog:
        values, unit = _array(one.numbers[name]), layout.units.get(name, "")
        yield Column(name, values, unit)
        for step in range(1, horizon + 1):
            ahead = np.minimum(np.arange(len(values)) + step, len(values) - 1)
            yield Column(f"{name}[t+{step}]", values[ahead], unit)


def _indicators(one: Cleaned, known: dict[str, list[str]]) -> Iterator[Column]:
    for name, categories in known.items():
        values = one.categories[name].astype(str).to_numpy()
        for category in categories:
            is_it = (values == category).astype(np.float64)
            yield Column(f"{name}={category}", is_it, is_indicator=True)


def _categories(name: str, parts: Sequence[pd.Series]) -> list[str]:
    categories = sorted({str(value) for part in parts for value in part.unique()})
    if len(categories) > MOST_CATEGORIES:
        raise ValueError(
            f"dataset.cat_exog has {name!r}, with {len(categories)} names in the training part; "
            f"at most {MOST_CATEGORIES} are read as indicators: group them, or leave it out"
        )
    return categories


def _calendar(one: Cleaned, layout: TableLayout) -> Iterator[Column]:
    for name in layout.calendar:
        for turn, values in zip(
            ("sin", "cos"), position(name, one.times.astype("datetime64[ns]")), strict=True
        ):
            yield Column(f"{name}_{turn}", values)


def _array(column: pd.Series) -> NDArray[np.float64]:
    return column.to_numpy(dtype=np.float64)
