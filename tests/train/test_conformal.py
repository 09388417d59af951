"""Conformal calibration."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from support.models import Session
from tidegate.train import Forecaster, Recurrent, checkpoint, export_onnx, job
from tidegate.train.build import build_model, load_data
from tidegate.train.config import load
from tidegate.train.config.forecast import ForecastConfig
from tidegate.train.data.series import Part, Series, SeriesSplit
from tidegate.train.evaluate.backtest import Backtest, backtests
from tidegate.train.evaluate.conformal import calibrate, conformal_offsets
from tidegate.train.export import check_file
from tidegate.train.scaler import StandardScaler

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


# In a model


def walk(rows: int = 600) -> SeriesSplit:
    times = np.datetime64("2001-01-01", "ns") + np.arange(rows) * np.timedelta64(1, "D")
    values = np.random.default_rng(5).normal(size=(rows, 1)).cumsum(axis=0)
    return SeriesSplit(Series("walk", times, values, ("y",), "D"), 200, 200)


def forecaster(split: SeriesSplit) -> Forecaster:
    """Untrained, so that its intervals are anything but right."""
    torch.manual_seed(0)
    return Forecaster(
        Recurrent("gru", 1, 4),
        features=("y",),
        targets=("y",),
        horizon=2,
        quantile_levels=(0.1, 0.4, 0.5, 0.6, 0.9),
        scaler=StandardScaler.fit(split.train.values, [True]),
        frequency="D",
    )


def coverage(test: Backtest, low: int, high: int) -> np.ndarray:
    """Share of values within two quantiles, [horizon]."""
    truth, quantiles = test.truth[..., 0], test.quantiles[:, :, 0]
    share: np.ndarray = ((quantiles[..., low] <= truth) & (truth <= quantiles[..., high])).mean(0)
    return share


def test_the_intervals_of_a_model_hold_once_it_is_calibrated() -> None:
    split = walk()
    model = forecaster(split)
    (before,) = backtests(model, [split], "test")
    assert (np.abs(coverage(before, 0, 4) - 0.8) > 0.05).any()
    calibrate(model, [split])
    parts: tuple[Part, ...] = ("validation", "test")
    for part in parts:
        (after,) = backtests(model, [split], part)
        assert (np.abs(coverage(after, 0, 4) - 0.8) < 0.07).all()
        assert (np.abs(coverage(after, 1, 3) - 0.2) < 0.1).all()
        assert (np.diff(after.quantiles, axis=-1) >= 0).all()
    # Once more is no more.
    offsets = model.offsets.clone()
    calibrate(model, [split])
    assert torch.equal(model.offsets, offsets)


def test_offsets_that_would_make_quantiles_cross_do_not(tmp_path: Path) -> None:
    split = walk()
    model = forecaster(split).eval()
    x = model.example(2, 9, torch.Generator().manual_seed(0))
    plain, _ = model(x)
    offsets = torch.tensor([50.0, 0.0, 0.0, 1.0, -50.0])
    model.offsets += offsets
    moved, _ = model(x)
    assert (moved.diff(dim=-1) >= 0).all()
    middle = plain[..., 2]
    torch.testing.assert_close(moved[..., 2], middle, rtol=0, atol=0)
    # The outer ones have come in as far as those within them.
    torch.testing.assert_close(moved[..., 4], moved[..., 3])
    torch.testing.assert_close(moved[..., 0], moved[..., 1])
    # The file does the same: the parity gate compares them, from its own weights too.
    export_onnx(model, tmp_path / "model.onnx")
    assert check_file(tmp_path / "model.onnx").parity.max_relative_error < 1e-5
    answer = Session(tmp_path / "model.onnx").run(
        {
            "x": x.numpy(),
            "lengths": np.full(2, 9, np.int32),
            "h": np.zeros((1, 2, 4), np.float32),
            "x_previous": np.full((1, 2, 1), np.nan, np.float32),
        }
    )
    np.testing.assert_allclose(answer["quantiles"], moved.detach().numpy(), rtol=1e-5, atol=1e-5)


def test_a_run_calibrates_if_it_is_asked_to(tmp_path: Path) -> None:
    days = walk().series.timestamps.astype("datetime64[D]").astype(str)
    lines = [f"{day},{value}" for day, value in zip(days, walk().series.values[:, 0], strict=True)]
    (tmp_path / "walk.csv").write_text("\n".join(["ds,y", *lines]))
    recipe = tmp_path / "walk.toml"
    recipe.write_text(
        f'name = "walk"\ntask = "forecasting"\n[dataset]\nname = "csv"\n'
        f'path = "{tmp_path / "walk.csv"}"\n[model]\nhidden_size = 4\nnum_layers = 1\n'
        "[training]\nepochs = 1\n"
    )
    for asked in (False, True):
        config = load(recipe, {"forecast.conformal": asked})
        data = load_data(config)
        model = build_model(config, data)
        job.train(config, model, data)
        assert isinstance(model, Forecaster)
        assert bool(model.offsets.any()) is asked
        path = checkpoint.save(tmp_path / "model.pt", config, model)
        assert torch.equal(checkpoint.load(path).model.get_buffer("offsets"), model.offsets)


def test_counts_are_not_calibrated() -> None:
    with pytest.raises(ValueError, match="conformal = true with head = 'negative_binomial'"):
        ForecastConfig(conformal=True, head="negative_binomial")
