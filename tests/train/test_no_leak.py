"""What is later than the training part reaches nothing that is learnt."""

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.train.data.lanes import Lanes
from tidegate.train.data.panel import Panel
from tidegate.train.data.series import Series
from tidegate.train.data.split import Cuts, split_panel
from tidegate.train.data.windows import Windows
from tidegate.train.fit import Epoch, ForecastingTask, Optimization, fit
from tidegate.train.forecaster import Forecaster
from tidegate.train.recurrent import Recurrent
from tidegate.train.scaler import SCALERS, find_scaler

ROWS, TRAIN, HORIZON = 40, 20, 3
CUTS = Cuts(date(2001, 1, 21), date(2001, 1, 31))


def panel(later: dict[tuple[int, int, int], float] | None = None) -> Panel:
    """Two series of two features; some values after the training part are changed."""
    rng = np.random.default_rng(0)
    times = np.datetime64("2001-01-01", "ns") + np.arange(ROWS) * np.timedelta64(1, "D")
    values = rng.normal(size=(2, ROWS, 2)).cumsum(axis=1)
    for place, value in (later or {}).items():
        values[place] = value
    names = ("level", "load")
    return split_panel(
        [Series(f"s{i}", times, one, names, "D") for i, one in enumerate(values)], CUTS
    )


def forecaster(data: Panel, scaler: str = "standard") -> Forecaster:
    torch.manual_seed(0)
    return Forecaster(
        Recurrent("gru", 2, 4),
        features=data.features,
        targets=("level",),
        horizon=HORIZON,
        quantile_levels=(0.1, 0.5, 0.9),
        scaler=find_scaler(scaler).fit([one.values for one in data.train], (True, False)),
        frequency="D",
    )


def weights_by_epoch(data: Panel, scaler: str, **options: Any) -> list[list[torch.Tensor]]:
    """The weights after every epoch, before the validation part chooses one of them."""
    model = forecaster(data, scaler)
    seen: list[list[torch.Tensor]] = []
    task = ForecastingTask(model, data.splits, lanes=2, bptt=8, **options)

    def keep(epoch: Epoch) -> None:
        assert epoch.number == len(seen) + 1
        seen.append([one.detach().clone() for one in model.parameters()])

    fit(task, Optimization(learning_rate=0.01, schedule="constant"), epochs=2, after_epoch=[keep])
    return seen


LATER = st.dictionaries(
    st.tuples(st.integers(0, 1), st.integers(TRAIN, ROWS - 1), st.integers(0, 1)),
    st.floats(-1e6, 1e6, width=32),
    min_size=1,
    max_size=12,
)


@given(LATER, st.sampled_from(sorted(SCALERS)))
def test_no_later_value_reaches_scaler_lanes_or_windows(
    later: dict[tuple[int, int, int], float], name: str
) -> None:
    scalers, segments = [], []
    for data in (panel(), panel(later)):
        scaler = find_scaler(name).fit([one.values for one in data.train], (True, False))
        scalers.append(np.concatenate([scaler.center, scaler.scale, scaler.level]))
        lanes = Lanes(data.train, 3, 7, HORIZON, [0])
        windows = Windows(data.train, 5, 6, HORIZON, [0])
        read = [one.segments(np.random.default_rng(0)) for one in (lanes, windows)]
        segments.append([segment for sampler in read for segment in sampler])
    np.testing.assert_array_equal(scalers[0], scalers[1])
    for ours, theirs in zip(*segments, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@settings(max_examples=6, deadline=None)
@given(LATER, st.sampled_from(sorted(SCALERS)), st.sampled_from([None, 6]))
def test_no_later_value_reaches_the_weights(
    later: dict[tuple[int, int, int], float], name: str, lookback: int | None
) -> None:
    untouched, changed = (
        weights_by_epoch(data, name, lookback=lookback) for data in (panel(), panel(later))
    )
    assert len(untouched) == 2
    for ours, theirs in zip(untouched, changed, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_value_of_the_training_part_does_reach_them() -> None:
    """The tests above would pass too if nothing were read."""
    earlier = panel({(0, TRAIN - 1, 0): 50.0})
    for ours, theirs in zip(
        weights_by_epoch(panel(), "standard"), weights_by_epoch(earlier, "standard"), strict=True
    ):
        assert any(not torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


# Scalers


def test_each_scaler_is_its_formula() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, size=(101, 1)) ** 3
    read = values[1:, 0]
    standard, robust, mean_abs = (
        find_scaler(n).fit(values) for n in ("standard", "robust", "mean_abs")
    )
    assert (standard.center[0], standard.scale[0]) == pytest.approx((read.mean(), read.std()))
    low, high = np.quantile(read, (0.25, 0.75))
    assert (robust.center[0], robust.scale[0]) == pytest.approx((np.median(read), high - low))
    assert (mean_abs.center[0], mean_abs.scale[0]) == pytest.approx((0.0, np.abs(read).mean()))


def test_a_robust_scale_is_not_moved_by_outliers() -> None:
    values = np.random.default_rng(2).normal(size=(200, 1))
    wild = values.copy()
    wild[::50] = 1e6
    calm, moved = (find_scaler("robust").fit(one).scale[0] for one in (values, wild))
    assert moved == pytest.approx(calm, rel=0.1)


def test_a_scale_is_of_all_series_and_no_change_goes_from_one_to_the_next() -> None:
    ends_high, begins_low = np.array([[0.0], [1.0], [2.0]]), np.array([[-9.0], [-8.0], [-6.0]])
    scaler = find_scaler("standard").fit([ends_high, begins_low], [True])
    assert scaler.center[0] == pytest.approx(np.mean([1, 1, 1, 2]))
    assert scaler.scale[0] == pytest.approx(np.std([1, 1, 1, 2]))


def test_indicators_are_read_as_they_are() -> None:
    values = np.column_stack([np.arange(9.0), np.zeros(9)])
    scaler = find_scaler("standard").fit(values, indicators=[1])
    assert (scaler.center[1], scaler.scale[1]) == (0.0, 1.0)


def test_a_scaler_without_spread_is_refused() -> None:
    values = np.zeros((20, 1))
    values[3] = 1.0
    with pytest.raises(ValueError, match="mostly one value, so that its interquartile range is 0"):
        find_scaler("robust").fit(values)
    with pytest.raises(ValueError, match="scaler='min_max' is unknown"):
        find_scaler("min_max")


def test_series_of_different_features_are_no_panel() -> None:
    series = list(panel().whole)
    series[1] = replace(series[1], features=("level", "wind"))
    with pytest.raises(ValueError, match=r"series 's1' has the features .* give all the same"):
        split_panel(series, CUTS)
