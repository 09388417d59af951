"""Series from tables: formats, covariates, and what is wrong with them."""

import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.train.data.catalog import CATALOG, table_file
from tidegate.train.data.clean import SeriesProblem
from tidegate.train.data.panel import Panel
from tidegate.train.data.split import Cuts, split_panel
from tidegate.train.data.table import TableLayout
from tidegate.train.data.tables import MOST_CATEGORIES, load_panel

DAYS = pd.date_range("2001-01-01", periods=10, freq="D")


def long(**columns: object) -> pd.DataFrame:
    """Two series of ten days; the second counts from 100."""
    frames = [
        pd.DataFrame({"unique_id": name, "ds": DAYS, "y": np.arange(10.0) + first})
        for name, first in (("a", 0), ("b", 100))
    ]
    return pd.concat(frames, ignore_index=True).assign(**columns)  # type: ignore[arg-type]


def panel(
    folder: Path,
    table: pd.DataFrame | str,
    cuts: Cuts | None = None,
    horizon: int = 1,
    **layout: Any,
) -> Panel:
    path = folder / "table.csv"
    if isinstance(table, str):
        path.write_text(table)
    else:
        table.to_csv(path, index=False)
    return load_panel(path, TableLayout(**layout), cuts or Cuts(), horizon)


def refusal(folder: Path, table: pd.DataFrame | str, **layout: Any) -> str:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - each test matches the text
        panel(folder, table, **layout)
    return str(refused.value)


def one(flow: str) -> str:
    """A table of one series; a line is a day and a value."""
    return "ds,flow\n" + "\n".join(flow.split())


# Formats


def test_a_long_table_is_a_series_for_each_name(tmp_path: Path) -> None:
    read = panel(tmp_path, long())
    assert [series.name for series in read.whole] == ["a", "b"]
    assert read.targets == read.features == ("y",)
    np.testing.assert_array_equal(read.whole[1].values[:, 0], np.arange(100, 110))
    assert read.rows() == {"train": 14, "validation": 2, "test": 4}


def test_rows_of_different_series_may_be_mixed(tmp_path: Path) -> None:
    mixed = long().sort_values("ds", kind="stable")
    assert panel(tmp_path, mixed).digest() == panel(tmp_path, long()).digest()


def test_a_parquet_file_is_the_panel_that_its_csv_file_is(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    long().to_parquet(path)
    read = load_panel(path, TableLayout(), Cuts())
    assert read.digest() == panel(tmp_path, long()).digest()


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    path.write_text("no parquet")
    with pytest.raises(ValueError, match=r"table\.parquet' cannot be read as a table"):
        load_panel(path, TableLayout(), Cuts())
    with pytest.raises(ValueError, match="is no file; give the path of a CSV file or a Parquet"):
        load_panel(tmp_path / "none.csv", TableLayout(), Cuts())


def test_a_table_without_names_is_one_series_with_all_its_columns(tmp_path: Path) -> None:
    read = panel(tmp_path, pd.DataFrame({"ds": DAYS, "flow": range(10), "rain": range(10)}))
    assert (read.whole[0].name, read.features, read.targets) == (
        "table",
        ("flow", "rain"),
        ("flow",),
    )


def test_a_wide_table_is_a_series_for_each_column(tmp_path: Path) -> None:
    wide = pd.DataFrame({"day": DAYS, "a": np.arange(10.0), "b": np.arange(10.0) + 100})
    read = panel(tmp_path, wide, format="wide", time_column="day")
    assert read.digest() == panel(tmp_path, long()).digest()
    assert [one.name for one in panel(tmp_path, wide, format="wide", time_column="day").whole] == [
        "a",
        "b",
    ]


def test_the_columns_of_a_wide_table_may_share_covariates(tmp_path: Path) -> None:
    wide = pd.DataFrame({"ds": DAYS, "a": range(10), "b": range(10), "rain": range(5, 15)})
    read = panel(tmp_path, wide, format="wide", targets=("a", "b"), hist_exog=("rain",))
    assert (read.features, read.targets) == (("y", "rain"), ("y",))
    for series in read.whole:
        np.testing.assert_array_equal(series.values[:, 1], range(5, 15))


def test_rows_without_times_are_numbered(tmp_path: Path) -> None:
    read = panel(
        tmp_path,
        "1,5\n2,6\n3,7\n4,8\n",
        columns=("x", "y"),
        time_column="",
        cuts=Cuts(rows=(2, 1, 1)),
    )
    assert read.whole[0].timestamps.tolist() == [0, 1, 2, 3]
    assert read.targets == ("y",)


def test_times_may_be_whole_numbers(tmp_path: Path) -> None:
    table = "ds,y\n" + "\n".join(f"{year},{year}" for year in range(1990, 2000, 2))
    assert panel(tmp_path, table, frequency="2").whole[0].timestamps.tolist()[:2] == [1990, 1992]
    assert "row 1, time 1992: expected 1991" in refusal(tmp_path, table, frequency="1")


def test_times_and_missing_values_are_read_as_they_are_written(tmp_path: Path) -> None:
    table = "Date,vix\n1/3/2014,13.7\n1/6/2014,.\n1/7/2014,12.9\n1/8/2014,12.8\n1/9/2014,1\n"
    read = panel(
        tmp_path,
        table,
        time_column="Date",
        time_format="%m/%d/%Y",
        frequency="B",
        missing_values=(".",),
        missing="ffill",
        cuts=Cuts(rows=(3, 1, 1)),
    )
    series = read.whole[0]
    assert str(series.timestamps[0])[:10] == "2014-01-03"
    assert series.values[:3, 0].tolist() == [13.7, 13.7, 12.9]


# What is wrong


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("2001-01-02,1 2001-01-01,1", r"row 1, time 2001-01-01.*unsorted; sort the rows"),
        ("2001-01-01,1 2001-01-01,2", r"row 1, time 2001-01-01.*is a duplicate"),
        ("2001-01-01,1 2001-01-03,2", r"row 1, time 2001-01-03.*expected 2001-01-02"),
        (
            "2001-01-01,1 2001-01-02,",
            r"row 1, time 2001-01-02.*flow is missing; say in dataset.missing",
        ),
        ("2001-01-01,1 2001-01-02,low", r"row 1, time 2001-01-02.*'low', no finite number"),
        ("2001-01-01,inf", r"row 0, time 2001-01-01.*no finite number"),
        ("monday,1", r"row 0, time 'monday'.*ds is not ISO 8601"),
        ("", "has no values"),
    ],
)
def test_what_is_wrong_is_named_with_series_row_and_time(
    tmp_path: Path, lines: str, text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        panel(tmp_path, one(lines))


def test_everything_wrong_in_any_series_can_be_collected(tmp_path: Path) -> None:
    table = long()
    table.loc[3, "y"] = np.nan
    table.loc[5, "y"] = np.inf
    path = tmp_path / "table.csv"
    table.to_csv(path, index=False)
    problems: list[SeriesProblem] = []
    read = load_panel(path, TableLayout(), Cuts(), report=problems.append)
    assert [(found.series, found.row) for found in problems] == [("a", 3), ("a", 5)]
    assert problems[0].time == "2001-01-04"
    assert [series.name for series in read.whole] == ["b"]


def test_a_column_that_is_not_there_is_named_with_a_suggestion(tmp_path: Path) -> None:
    said = refusal(tmp_path, long(), futr_exog=("holliday",), hist_exog=())
    assert "no column 'holliday'" in said
    assert "did you mean 'unique_id'" in refusal(tmp_path, long(), id_column="unique_ids")


def test_a_column_has_one_role(tmp_path: Path) -> None:
    said = refusal(tmp_path, long(), targets=("y",), futr_exog=("y",))
    assert "column 'y'" in said
    assert "two roles" in said


def test_a_series_without_name_is_refused(tmp_path: Path) -> None:
    table = long()
    table.loc[4, "unique_id"] = None
    assert "row 4: unique_id is missing" in refusal(tmp_path, table)


# Gaps and missing values

GAP = one("2001-01-01,1 2001-01-02,2 2001-01-04,4 2001-01-05,5 2001-01-06,6")


def test_rows_of_a_gap_are_filled_from_the_past_if_asked(tmp_path: Path) -> None:
    series = panel(tmp_path, GAP, gaps="insert", missing="ffill").whole[0]
    assert series.values[:, 0].tolist() == [1, 2, 2, 4, 5, 6]
    # What was filled is no truth.
    np.testing.assert_array_equal(series.truth([0])[:, 0], [1, 2, np.nan, 4, 5, 6])


def test_missing_values_are_marked_if_asked(tmp_path: Path) -> None:
    series = panel(tmp_path, GAP, gaps="insert", missing="mark").whole[0]
    assert series.features == ("flow", "flow_missing")
    assert series.values[:, 1].tolist() == [0, 0, 1, 0, 0, 0]
    assert series.indicators == {"flow_missing"}


def test_steps_are_rows_where_gaps_are_kept(tmp_path: Path) -> None:
    assert panel(tmp_path, GAP, gaps="keep").whole[0].values[:, 0].tolist() == [1, 2, 4, 5, 6]


def test_rows_with_missing_values_are_dropped_if_asked(tmp_path: Path) -> None:
    table = one("2001-01-01,1 2001-01-02, 2001-01-03,3 2001-01-04,4 2001-01-05,5")
    series = panel(tmp_path, table, missing="drop", gaps="keep").whole[0]
    assert series.values[:, 0].tolist() == [1, 3, 4, 5]
    assert "expected 2001-01-02" in refusal(tmp_path, table, missing="drop")


def test_nothing_later_fills_a_beginning(tmp_path: Path) -> None:
    said = refusal(tmp_path, one("2001-01-01, 2001-01-02,2"), missing="ffill")
    assert "row 0, time 2001-01-01: flow is missing, and no earlier value" in said


def test_a_time_off_the_grid_cannot_be_inserted_around(tmp_path: Path) -> None:
    table = one("2001-01-01,1 2001-01-02T01:00,2 2001-01-03,3")
    said = refusal(tmp_path, table, gaps="insert", missing="ffill")
    assert "time 2001-01-02 01:00:00: is no whole number of steps of frequency='D'" in said


def test_a_series_of_missing_values_alone_cannot_be_mended(tmp_path: Path) -> None:
    said = refusal(tmp_path, one("2001-01-01, 2001-01-02,"), missing="drop")
    assert "row 0, time 2001-01-01: the series has no row with every value" in said


def test_a_frequency_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"dataset.frequency = 'fortnight' is no offset alias"):
        TableLayout(frequency="fortnight")
    with pytest.raises(ValueError, match=r"dataset.calendar = \['day_of_week'\] of times that are"):
        TableLayout(frequency="1", calendar=("day_of_week",))


def test_times_with_an_offset_are_taken_to_utc(tmp_path: Path) -> None:
    rows = [f"2001-01-0{day}T01:00:00+01:00,{day}" for day in range(1, 6)]
    series = panel(tmp_path, "ds,y\n" + "\n".join(rows)).whole[0]
    assert str(series.timestamps[0]) == "2001-01-01T00:00:00.000000000"


def test_inserted_rows_need_something_to_stand_in_them() -> None:
    with pytest.raises(ValueError, match=r"dataset.gaps = 'insert' with missing = 'error'"):
        TableLayout(gaps="insert")


@given(gone=st.sets(st.integers(1, 18), max_size=12))
def test_a_filled_series_never_says_what_was_not_known_yet(gone: set[int]) -> None:
    """Every value is the last one observed at or before its time."""
    rows = [row for row in range(20) if row not in gone]
    days = pd.date_range("2001-01-01", periods=20, freq="D")
    table = pd.DataFrame({"ds": days[rows], "y": rows})
    with tempfile.TemporaryDirectory() as folder:
        series = panel(Path(folder), table, gaps="insert", missing="ffill").whole[0]
    for row, value in enumerate(series.values[:, 0]):
        assert value == max(one for one in rows if one <= row)


# Covariates


def test_what_is_known_of_the_future_is_given_with_the_observation(tmp_path: Path) -> None:
    table = long(holiday=np.tile(np.arange(10), 2))
    read = panel(tmp_path, table, horizon=3, futr_exog=("holiday",))
    assert read.features == ("y", "holiday", *(f"holiday[t+{step}]" for step in (1, 2, 3)))
    values = read.whole[0].values
    np.testing.assert_array_equal(values[4], [4, 4, 5, 6, 7])
    # Past the end of the table the last value known.
    np.testing.assert_array_equal(values[8], [8, 8, 9, 9, 9])


def test_what_is_static_is_a_constant_column(tmp_path: Path) -> None:
    area = np.repeat([5.0, 7.0], 10)
    read = panel(tmp_path, long(area=area), stat_exog=("area",))
    assert [series.values[:, 1].tolist() for series in read.whole] == [[5.0] * 10, [7.0] * 10]
    area[13] = 8.0
    said = refusal(tmp_path, long(area=area), stat_exog=("area",))
    assert "series 'b', row 13, time 2001-01-04: area changes" in said
    assert "from 7.0 to 8.0" in said


def test_the_training_part_says_which_categories_there_are(tmp_path: Path) -> None:
    kind = ["x", "y"] * 3 + ["x"] * 3 + ["later"]
    read = panel(tmp_path, long(kind=kind * 2), cat_exog=("kind",))
    assert read.features == ("y", "kind=x", "kind=y")
    series = read.whole[0]
    np.testing.assert_array_equal(series.values[[0, 1, 9], 1:], [[1, 0], [0, 1], [0, 0]])
    assert series.indicators == {"kind=x", "kind=y"}


def test_a_missing_category_is_no_category(tmp_path: Path) -> None:
    table = long(kind=["x", "y", None, "x", "y"] * 4)
    assert "row 2, time 2001-01-03: kind is missing" in refusal(tmp_path, table, cat_exog=("kind",))
    series = panel(tmp_path, table, cat_exog=("kind",), missing="ffill").whole[0]
    assert series.values[2, 1:].tolist() == [0, 1]


def test_too_many_categories_are_refused(tmp_path: Path) -> None:
    rows = 2 * MOST_CATEGORIES
    table = pd.DataFrame({"ds": pd.date_range("2001", periods=rows, freq="D"), "y": range(rows)})
    said = refusal(tmp_path, table.assign(kind=table["y"].astype(str) + "k"), cat_exog=("kind",))
    assert "at most 256 are read as indicators" in said


def test_a_calendar_tells_the_time_of_an_observation(tmp_path: Path) -> None:
    read = panel(tmp_path, long(), calendar=("day_of_week", "day_of_year"))
    assert read.features[1:] == tuple(
        f"day_of_{period}_{turn}" for period in ("week", "year") for turn in ("sin", "cos")
    )
    week = read.whole[0].values[:, 1:3]
    np.testing.assert_allclose(week[0], week[7], atol=1e-12)
    assert np.abs(week[0] - week[3]).max() > 0.5


def test_logarithms_say_so_in_their_names(tmp_path: Path) -> None:
    table = pd.DataFrame({"ds": DAYS, "price": np.exp(np.arange(10.0))})
    read = panel(tmp_path, table, targets=("price",), logarithms=("price",))
    assert read.targets == ("log_price",)
    np.testing.assert_allclose(read.whole[0].values[:, 0], np.arange(10.0))
    table.loc[2, "price"] = 0.0
    said = refusal(tmp_path, table, logarithms=("price",))
    assert "row 2, time 2001-01-03: price is 0.0, which has no logarithm" in said
    assert "use one of y" in refusal(tmp_path, long(), logarithms=("price",))


# Cuts


def test_all_series_are_cut_at_the_same_times(tmp_path: Path) -> None:
    table = long()
    table = table[(table["unique_id"] == "a") | (table["ds"] >= "2001-01-04")]
    read = panel(tmp_path, table, Cuts(date(2001, 1, 6), date(2001, 1, 9)))
    assert [len(one) for one in read.train] == [5, 2]
    assert [one.values[0, 0] for one in read.validation] == [5, 105]
    # Without dates likewise: 70 % of the times, not of each series' rows.
    usual = panel(tmp_path, table)
    assert [one.values[0, 0] for one in usual.validation] == [7, 107]


def test_rows_leave_out_what_is_after_them(tmp_path: Path) -> None:
    read = panel(tmp_path, long(), Cuts(rows=(4, 2, 2)))
    assert [len(one) for one in read.whole] == [8, 8]
    assert read.rows() == {"train": 8, "validation": 4, "test": 4}


def test_rows_cannot_cut_series_of_different_times(tmp_path: Path) -> None:
    table = long().iloc[:-1]
    with pytest.raises(ValueError, match=r"series 'b' runs from .* in 9 rows"):
        panel(tmp_path, table, Cuts(rows=(4, 2, 2)))
    with pytest.raises(ValueError, match=r"= \[4, 2, 20\]; give three of at least 1, 10 together"):
        panel(tmp_path, long(), Cuts(rows=(4, 2, 20)))


def test_two_series_of_one_name_are_refused(tmp_path: Path) -> None:
    series = panel(tmp_path, long()).whole[0]
    with pytest.raises(ValueError, match="two series have the name 'a'"):
        split_panel([series, series], Cuts())


def test_an_unknown_target_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'z' is no feature of series 'a'"):
        split_panel([panel(tmp_path, long()).whole[0]], Cuts(), ["z"])


# The catalogue


@pytest.mark.parametrize(
    ("name", "rows", "features"),
    [
        ("etth1", (8640, 2880, 2880), 7),
        ("exchange_rate", (5311, 760, 1517), 8),
        ("sp500", None, 1),
    ],
)
def test_the_tables_of_the_catalogue_are_read(
    name: str,
    rows: tuple[int, int, int] | None,
    features: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Files made up in the form of the real ones."""
    dataset = CATALOG[name]
    assert dataset.table is not None
    count = sum(rows) + 5 if rows else 20
    columns = {column: np.arange(1.0, count + 1) for column in dataset.table.targets}
    table = pd.DataFrame(columns)
    if dataset.table.time_column:
        start = pd.date_range("2016-07-01", periods=count, freq=dataset.table.frequency)
        times = start.strftime(dataset.table.time_format or "%Y-%m-%d %H:%M:%S")
        table.insert(0, dataset.table.time_column, times)
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path))
    path = tmp_path / str(dataset.folder) / dataset.files[0]
    path.parent.mkdir()
    table.to_csv(path, index=False, header=not dataset.table.columns)
    read = load_panel(table_file(dataset), dataset.table, dataset.cuts)
    assert len(read.features) == len(read.targets) == features
    if rows:
        assert tuple(read.rows().values()) == rows
