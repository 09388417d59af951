"""Series: loading, checks, cuts in time, lanes."""

from dataclasses import replace
from datetime import date
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.train.data.co2 import load_co2
from tidegate.train.data.lanes import Lanes, Segment, assign, multi_horizon
from tidegate.train.data.series import Series, SeriesSplit
from tidegate.train.data.split import split_by_time


def counting(rows: int, first: int = 0, name: str = "count") -> Series:
    """Each value is its row's number, so that every shift shows."""
    times = np.datetime64("2001-01-01", "ns") + np.arange(rows) * np.timedelta64(1, "D")
    values = np.arange(first, first + rows, dtype=np.float64)[:, None]
    return Series(name, times, values, ("value",), "D")


# Series and their parts


def test_a_split_follows_the_dates() -> None:
    split = split_by_time(counting(10), date(2001, 1, 6), date(2001, 1, 9))
    assert [list(part.values[:, 0]) for part in (split.train, split.validation, split.test)] == [
        [0, 1, 2, 3, 4],
        [5, 6, 7],
        [8, 9],
    ]


def test_an_empty_part_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the test part of series 'count' is empty.*move the two"):
        split_by_time(counting(10), date(2001, 1, 6), date(2002, 1, 1))


def test_a_digest_changes_with_a_value_a_time_and_a_cut() -> None:
    series = counting(10)
    later = replace(counting(11).rows(1, 11), values=series.values)
    values = series.values.copy()
    values[3] += 1e-9
    other = Series("count", series.timestamps, values, ("value",), "D")
    assert len({series.digest(), later.digest(), other.digest()}) == 3
    assert SeriesSplit(series, 5, 2).digest() != SeriesSplit(series, 5, 3).digest()
    assert SeriesSplit(series, 5, 2).digest() == SeriesSplit(counting(10), 5, 2).digest()


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="give one timestamp for each row"):
        Series("a", counting(3).timestamps, np.zeros((4, 1)), ("value",), "D")


def test_an_unknown_feature_is_named() -> None:
    with pytest.raises(
        ValueError, match="'vale' is no feature of series 'count'; use one of value"
    ):
        counting(3).columns(["vale"])


# The CO2 record


def test_the_gaps_of_the_co2_record_are_filled_from_the_past_only() -> None:
    from statsmodels.datasets import co2

    raw = co2.load_pandas().data["co2"].to_numpy()
    series = load_co2()
    level = series.values[:, 0]
    assert int(np.isnan(raw).sum()) == 59
    known = ~np.isnan(raw)
    np.testing.assert_array_equal(level[known], raw[known])
    for row in np.flatnonzero(~known):
        assert level[row] == level[row - 1]


def test_the_calendar_of_the_co2_record_turns_once_a_year() -> None:
    series = load_co2()
    _, sine, cosine = series.values.T
    np.testing.assert_allclose(sine**2 + cosine**2, 1.0)
    january = np.flatnonzero(series.timestamps.astype("datetime64[D]").astype(str) == "1994-01-01")
    assert (sine[january], cosine[january]) == (0.0, 1.0)


# Lanes


def test_the_targets_of_a_step_are_the_values_after_it() -> None:
    targets = multi_horizon(np.arange(5.0)[:, None], 3)[..., 0]
    np.testing.assert_array_equal(targets[:2], [[1, 2, 3], [2, 3, 4]])
    np.testing.assert_array_equal(targets[2:], [[3, 4, np.nan], [4] + [np.nan] * 2, [np.nan] * 3])


def test_a_lane_goes_on_where_its_segment_before_ended() -> None:
    segments = list(Lanes([counting(20)], 2, 4, 1, [0]).segments())
    rows = torch.cat([segment.x[..., 0] for segment in segments], dim=1)
    assert rows[0, :10].tolist() == list(range(10))
    assert [segment.reset.tolist() for segment in segments] == [
        [True] * 2,
        [False] * 2,
        [False] * 2,
    ]


def test_a_lane_resets_when_its_series_changes() -> None:
    series = [counting(4, 0, "a"), counting(4, 100, "b")]
    first, second = Lanes(series, 1, 4, 1, [0]).segments()
    assert [float(segment.x[0, 0, 0]) for segment in (first, second)] == [0, 100]
    assert first.reset.tolist() == second.reset.tolist() == [True]
    # The last value of the one never has a value of the other as its target.
    assert first.y[0, -1].isnan().all()


def test_a_lane_with_nothing_left_has_no_known_target() -> None:
    segments = list(Lanes([counting(9, 0, "a"), counting(2, 100, "b")], 2, 4, 1, [0]).segments())
    last: Segment = segments[-1]
    idle = last.lengths == 1
    assert last.y[idle][:, 0].isnan().all()


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(2, 60), min_size=1, max_size=6),
    lanes=st.integers(1, 8),
    bptt=st.integers(1, 20),
    seed=st.none() | st.integers(0, 9),
)
def test_every_row_of_every_series_is_read_exactly_once(
    sizes: list[int], lanes: int, bptt: int, seed: int | None
) -> None:
    series = [counting(size, 1000 * index + 1) for index, size in enumerate(sizes)]
    generator = None if seed is None else np.random.default_rng(seed)
    seen: list[float] = []
    for segment in Lanes(series, lanes, bptt, 1, [0]).segments(generator):
        assert segment.x.shape[1] <= bptt
        for row, length in zip(segment.x[..., 0], segment.lengths, strict=True):
            seen += [value for value in row[:length].tolist() if value != 0]
    assert sorted(seen) == sorted(float(v) for one in series for v in one.values[:, 0])


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(1, 8))
def test_stretches_cover_each_series_without_overlap(sizes: list[int], lanes: int) -> None:
    stretches = sorted(stretch for lane in assign(sizes, lanes) for stretch in lane)
    for index, size in enumerate(sizes):
        own = [(s.start, s.stop) for s in stretches if s.series == index]
        assert own[0][0] == 0
        assert own[-1][1] == size
        assert all(stop == start for (_, stop), (start, _) in pairwise(own))
