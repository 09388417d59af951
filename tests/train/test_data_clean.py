"""Series from tables: what is wrong in them, and what may be mended."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.tables import long, one, panel, refusal
from tidegate.train.data.clean import SeriesProblem
from tidegate.train.data.split import Cuts
from tidegate.train.data.table import TableLayout
from tidegate.train.data.tables import load_panel

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
