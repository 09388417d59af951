"""Series from tables: what a network is told beside the targets."""

from pathlib import Path

import numpy as np
import pandas as pd

from support.tables import DAYS, long, panel, refusal
from tidegate.train.data.tables import MOST_CATEGORIES


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
