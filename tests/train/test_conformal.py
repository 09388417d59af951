"""Conformal calibration."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.train.data.series import Series
from tidegate.train.evaluate.backtest import Backtest
from tidegate.train.evaluate.conformal import conformal_offsets

LEVELS = (0.05, 0.2, 0.5, 0.8, 0.95)


def forecasts(truth: np.ndarray, width: float, levels: tuple[float, ...] = LEVELS) -> Backtest:
    """The same quantiles at every origin: half a width per step of a level, around 0."""
    count, horizon = truth.shape
    series = Series(
        "s",
        np.datetime64("2001-01-01", "ns") + np.arange(count + 1) * np.timedelta64(1, "D"),
        np.zeros((count + 1, 1)),
        ("y",),
        "D",
    )
    shape = (count, horizon, 1, len(levels))
    quantiles = np.broadcast_to((np.array(levels) - 0.5) * width, shape)
    return Backtest(series, np.arange(count), quantiles, truth[..., None], ("y",), levels, 1)


@pytest.mark.parametrize("width", [0.1, 1.0, 20.0])
def test_quantiles_hold_after_calibration_however_wrong_they_were(width: float) -> None:
    rng = np.random.default_rng(0)
    spread = np.array([1.0, 3.0])
    held_out, later = (rng.normal(size=(2000, 2)) * spread for _ in range(2))
    test = forecasts(later, width)
    calibrated = test.quantiles + conformal_offsets([forecasts(held_out, width)])
    for index, level in enumerate(LEVELS):
        if level == 0.5:
            continue
        below = (later[..., None] <= calibrated[..., index]).mean(axis=(0, 2))
        # Three standard errors of a share of 2000, twice: held out and later.
        margin = 3 * np.sqrt(2 * level * (1 - level) / 2000)
        assert (np.abs(below - level) < margin).all(), (level, below)


@given(st.integers(19, 60), st.integers(0, 1000))
def test_an_interval_covers_what_it_was_calibrated_on(count: int, seed: int) -> None:
    """At least its share of n + 1 values, whatever they are."""
    truth = np.random.default_rng(seed).standard_cauchy(size=(count, 1))
    test = forecasts(truth, 1.0)
    calibrated = test.quantiles + conformal_offsets([test])
    # y - quantile + quantile is y but for rounding.
    above, below = (
        (sign * (test.truth[..., None] - calibrated) > 1e-9).sum(axis=(0, 1, 2)) for sign in (1, -1)
    )
    for index, level in enumerate(LEVELS):
        if level < 0.5:
            assert below[index] <= level * (count + 1)
        if level > 0.5:
            assert count - above[index] >= level * (count + 1) - 1e-9


def test_the_median_stays() -> None:
    truth = np.random.default_rng(1).normal(5.0, 1.0, size=(100, 2))
    assert (conformal_offsets([forecasts(truth, 1.0)])[..., 2] == 0).all()


def test_values_that_were_not_observed_take_no_part() -> None:
    truth = np.random.default_rng(2).normal(size=(50, 1))
    holed = np.concatenate([truth, np.full((30, 1), np.nan)])
    np.testing.assert_array_equal(
        conformal_offsets([forecasts(holed, 1.0)]), conformal_offsets([forecasts(truth, 1.0)])
    )


def test_the_values_of_all_series_are_taken_together() -> None:
    truth = np.random.default_rng(3).normal(size=(60, 1))
    parts = [forecasts(truth[:20], 1.0), forecasts(truth[20:], 1.0)]
    np.testing.assert_array_equal(
        conformal_offsets(parts), conformal_offsets([forecasts(truth, 1.0)])
    )


def test_the_ranks_are_those_of_the_paper() -> None:
    truth = np.arange(1.0, 20.0)[:, None]
    offsets = conformal_offsets([forecasts(truth, 0.0)])
    # Of 19 values: the 1st, the 4th, the 16th and the 19th.
    assert offsets[0, 0].tolist() == [1.0, 4.0, 0.0, 16.0, 19.0]


def test_too_few_values_are_refused() -> None:
    truth = np.zeros((18, 1))
    with pytest.raises(ValueError, match=r"0.05: 18 forecasts .* too few, 19 are needed"):
        conformal_offsets([forecasts(truth, 1.0)])
