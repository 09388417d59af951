"""Series from tables: formats, where the parts are cut, and the tables of the catalogue."""

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from support.tables import DAYS, long, panel, refusal
from tidegate.train.data.catalog import CATALOG, table_file
from tidegate.train.data.split import Cuts, split_panel
from tidegate.train.data.table import TableLayout
from tidegate.train.data.tables import load_panel

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
