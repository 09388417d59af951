"""Shuffled windows, the alternative to lanes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.train import Recurrent
from tidegate.train.data.series import Series, SeriesSplit
from tidegate.train.data.windows import Windows
from tidegate.train.fit import ForecastingTask
from tidegate.train.forecaster import Forecaster
from tidegate.train.losses import pinball_loss
from tidegate.train.scaler import StandardScaler


def counting(rows: int, first: int = 0, name: str = "count") -> Series:
    """Each value is its row's number, so that every shift shows."""
    times = np.datetime64("2001-01-01", "ns") + np.arange(rows) * np.timedelta64(1, "D")
    values = np.arange(first, first + rows, dtype=np.float64)[:, None]
    return Series(name, times, values, ("value",), "D")


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(6, 30), min_size=1, max_size=4),
    batch=st.integers(1, 9),
    lookback=st.integers(1, 5),
    seed=st.none() | st.integers(0, 9),
)
def test_every_window_is_read_once_and_learns_what_follows_it(
    sizes: list[int], batch: int, lookback: int, seed: int | None
) -> None:
    series = [counting(size, 1000 * index, f"s{index}") for index, size in enumerate(sizes)]
    generator = None if seed is None else np.random.default_rng(seed)
    firsts: list[float] = []
    for segment in Windows(series, batch, lookback, 2, [0]).segments(generator):
        assert segment.x.shape[1] == lookback
        assert segment.reset.all()
        for x, y in zip(segment.x[..., 0], segment.y[..., 0], strict=True):
            assert x.tolist() == [float(x[0]) + step for step in range(lookback)]
            assert y[-1, 0] == x[-1] + 1
            assert y[:-1].isnan().all()
            firsts.append(float(x[0]))
    expected = [float(one.values[row, 0]) for one in series for row in range(len(one) - lookback)]
    assert sorted(firsts) == expected


def test_windows_of_all_series_come_mixed() -> None:
    series = [counting(50, 0, "a"), counting(50, 1000, "b")]
    windows = Windows(series, 16, 5, 1, [0])
    (first, *_) = windows.segments(np.random.default_rng(0))
    assert 0 < int((first.x[:, 0, 0] >= 1000).sum()) < 16


def test_a_stride_takes_fewer_windows_and_others_in_each_epoch() -> None:
    windows = Windows([counting(40)], 8, 4, 1, [0], stride=10)
    generator = np.random.default_rng(0)
    epochs = [
        sorted(float(x) for one in windows.segments(generator) for x in one.x[:, 0, 0])
        for _ in range(8)
    ]
    for firsts in epochs:
        assert np.diff(firsts).tolist() == [10.0] * (len(firsts) - 1)
    assert len({firsts[0] for firsts in epochs}) > 1


def test_a_lookback_without_a_value_after_it_is_refused() -> None:
    with pytest.raises(ValueError, match=r"training.lookback = 9, .* 'count' has 9 rows"):
        Windows([counting(9)], 2, 9, 1, [0])


def test_a_window_is_learnt_from_the_initial_state() -> None:
    torch.manual_seed(0)
    noise = np.random.default_rng(0).normal(size=(30, 1))
    series = Series("s", counting(30).timestamps, noise, ("value",), "D")
    model = Forecaster(
        Recurrent("gru", 1, 4),
        features=("value",),
        targets=("value",),
        horizon=2,
        quantile_levels=(0.1, 0.5, 0.9),
        scaler=StandardScaler.fit(noise),
        frequency="D",
    )
    split = SeriesSplit(series, 20, 5)
    task = ForecastingTask(model, [split], lanes=4, bptt=1, seed=3, lookback=6)
    losses = [float(loss.detach()) for loss in task.losses(1)]
    windows = Windows([split.train], 4, 6, 2, [0])
    levels = torch.tensor(model.quantile_levels)
    for loss, segment in zip(losses, windows.segments(np.random.default_rng((3, 1))), strict=True):
        quantiles, _ = model(segment.x)
        assert loss == pytest.approx(
            float(pinball_loss(quantiles, segment.y, levels, model.target_scale).detach())
        )
