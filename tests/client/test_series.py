"""What a client keeps of a series is bounded, and always what a server may ask for again."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tidegate.client.series import Series

FEATURES = 2


@given(
    st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=60),
    st.integers(0, 12),
    st.integers(1, 20),
)
def test_rows_kept_are_the_last_ones_and_bounded_by_what_is_not_saved_and_the_history(
    chunks: list[tuple[int, bool]], history: int, every: int
) -> None:
    series = Series("a", history=history)
    everything = np.empty((0, FEATURES), np.float32)
    longest = 0
    for number, (length, early) in enumerate(chunks):
        rows = np.arange(length * FEATURES, dtype=np.float32).reshape(-1, FEATURES) + number
        everything = np.concatenate([everything, rows])
        longest = max(longest, length)
        end = len(everything)
        due = end - series.saved_offset >= every
        if due and early:
            series.saved(end, b"early")
        series.answered(rows, keep=True)
        if due and not early:
            series.saved(end, b"late")
        kept = np.concatenate([np.empty((0, FEATURES), np.float32), *series.kept])
        np.testing.assert_array_equal(kept, everything[end - len(kept) :])
        assert len(kept) >= min(end, max(history, end - series.saved_offset))
        assert len(kept) <= max(every + history, longest)
        # No part of an array keeps the rest of it in memory.
        held = sum(part.base.nbytes if part.base is not None else 0 for part in series.kept)
        assert held <= 4 * FEATURES * longest * len(series.kept)
        np.testing.assert_array_equal(
            np.concatenate([np.empty((0, FEATURES)), *series.history()]),
            everything[max(0, end - history) :],
        )


def test_a_series_that_begins_anew_sends_its_history_again_from_where_it_belongs() -> None:
    series = Series("a", b"token", history=4)
    series.begin(10)
    series.answered(np.zeros((3, FEATURES), np.float32), keep=True)
    assert series.restart().checkpoint == b"token"
    series.begin_anew(np.ones((5, FEATURES), np.float32))
    start = series.restart()
    assert (start.checkpoint, start.reset, start.first_offset) == (b"", True, 8)
    chunk = series.chunk_at(8)
    assert chunk is not None
    assert chunk.tolist() == [[1, 1]] * 5
    assert series.chunk_at(13) is None


def test_a_series_that_is_young_begins_anew_with_no_more_than_it_has_counted() -> None:
    series = Series("a")
    series.answered(np.zeros((2, FEATURES), np.float32), keep=True)
    series.begin_anew(np.arange(6, dtype=np.float32).reshape(3, FEATURES))
    assert series.restart().first_offset == 0
    assert series.kept[0].tolist() == [[2, 3], [4, 5]]
