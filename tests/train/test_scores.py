"""Backtests of many series, and their scores beside baselines."""

import os
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tidegate.train import Forecaster, Recurrent
from tidegate.train.config import DataSettings, load
from tidegate.train.data.catalog import CATALOG, table_file
from tidegate.train.data.panel import Panel
from tidegate.train.data.series import Series
from tidegate.train.data.split import Cuts, split_panel
from tidegate.train.data.tables import load_panel
from tidegate.train.evaluate import backtest as backtest_module
from tidegate.train.evaluate.backtest import Backtest, backtests
from tidegate.train.evaluate.baselines import last_value
from tidegate.train.evaluate.forecasting import score
from tidegate.train.evaluate.ridge import Ridge
from tidegate.train.scaler import StandardScaler
from tidegate.train.tasks.series import load_series

HORIZON = 3
EXAMPLES = Path(__file__).parents[2] / "examples" / "recipes"


def walks(*sizes: int) -> Panel:
    """Random walks that end together, the first one first to begin."""
    rng = np.random.default_rng(0)
    last = np.datetime64("2001-12-31", "ns")
    series = [
        Series(
            f"s{index}",
            last - np.arange(size)[::-1] * np.timedelta64(1, "D"),
            rng.normal(size=(size, 1)).cumsum(axis=0) + 100 * index,
            ("value",),
            "D",
        )
        for index, size in enumerate(sizes)
    ]
    return split_panel(series, Cuts(date(2001, 11, 20), date(2001, 12, 10)))


def forecaster(panel: Panel, horizon: int = HORIZON) -> Forecaster:
    torch.manual_seed(0)
    return Forecaster(
        Recurrent("gru", len(panel.features), 4),
        features=panel.features,
        targets=panel.targets,
        horizon=horizon,
        quantile_levels=(0.1, 0.5, 0.9),
        scaler=StandardScaler.fit([one.values for one in panel.train]),
        frequency=panel.frequency,
    )


def made_up(values: np.ndarray, error: float, train_rows: int = 30, name: str = "s") -> Backtest:
    """Forecasts that miss the truth of a series by one amount."""
    times = np.datetime64("2001-01-01", "ns") + np.arange(len(values)) * np.timedelta64(1, "D")
    series = Series(name, times, np.asarray(values, float)[:, None], ("value",), "D")
    origins = np.arange(train_rows, len(values) - HORIZON)
    truth = series.values[origins[:, None] + np.arange(1, HORIZON + 1), 0][..., None]
    quantiles = truth[..., None] + error + np.array([-1.0, 0.0, 1.0])
    return Backtest(series, origins, quantiles, truth, ("value",), (0.1, 0.5, 0.9), train_rows)


# Backtests


def test_series_streamed_together_forecast_what_each_forecasts_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    panel = walks(90, 60, 75)
    model = forecaster(panel)
    together = backtests(model, panel.splits, "test")
    monkeypatch.setattr(backtest_module, "CHUNK", 7)
    for split, test in zip(panel.splits, together, strict=True):
        (alone,) = backtests(model, [split], "test")
        assert test.series.name == split.series.name
        np.testing.assert_allclose(test.quantiles, alone.quantiles, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(test.truth, alone.truth)


def test_the_network_reads_every_observation_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """O(T), not O(T x window): the rows read do not grow with the horizon or the part."""
    panel = walks(90)
    model, read = forecaster(panel), []
    forward = model.forward

    def counted(x: torch.Tensor, *rest: Any) -> object:
        read.append(x.shape[1])
        return forward(x, *rest)

    monkeypatch.setattr(model, "forward", counted)
    backtests(model, panel.splits, "test")
    assert sum(read) == 90 - HORIZON


def test_what_was_filled_is_no_truth() -> None:
    panel = walks(90)
    (split,) = panel.splits
    observed = np.ones((90, 1), dtype=bool)
    observed[85] = False
    split = replace(split, series=replace(split.series, observed=observed))
    (test,) = backtests(forecaster(panel), [split], "test")
    assert np.isnan(test.truth).sum() == HORIZON
    scores = score([test], season=7)
    assert np.isfinite(scores.by_series.drop(columns="unique_id").to_numpy()).all()
    assert np.isfinite(test.loss(np.ones(1)))


# Scores


def test_a_score_is_scaled_by_the_training_part() -> None:
    values = np.tile([0.0, 2.0, 1.0, 5.0], 15)
    table = score([made_up(values, 0.5)], season=4).by_series.iloc[0]
    # The seasonal naive error within the training part is 0 where the series repeats.
    assert not np.isfinite(table["mase"])
    table = score([made_up(values, 0.5)], season=3).by_series.iloc[0]
    naive = np.abs(values[3:30] - values[:27]).mean()
    assert table["mase"] == pytest.approx(0.5 / naive)
    assert table["mae_standardised"] == pytest.approx(0.5 / values[:30].std())
    assert table["mse_standardised"] == pytest.approx(0.25 / values[:30].var())


def test_smape_is_relative_to_forecast_and_truth() -> None:
    test = made_up(np.full(60, 3.0) + np.arange(60) % 2, 0.5)
    truth = test.truth[..., 0]
    expected = (0.5 / (truth + (truth + 0.5))).mean()
    assert score([test], season=2).metrics["smape"] == pytest.approx(expected)


def test_a_direction_is_right_where_the_median_moves_as_the_truth_does() -> None:
    test = made_up(np.arange(60) % 5, 0.0, train_rows=30)
    row = score([test], season=3).by_series.iloc[0]
    assert row["direction"] == 1.0
    change = test.truth[..., 0] - (test.origins % 5)[:, None]
    assert row["direction_always_up"] == pytest.approx((change > 0).sum() / (change != 0).sum())


def test_series_count_alike_whatever_their_length() -> None:
    rng = np.random.default_rng(1)
    tests = [
        made_up(rng.normal(size=60), 1.0, name="a"),
        made_up(rng.normal(size=200), 3.0, 30, "b"),
    ]
    scores = score(tests, season=7)
    assert scores.by_series["unique_id"].tolist() == ["a", "b"]
    assert scores.metrics["mae"] == pytest.approx(2.0)
    assert scores.by_horizon["mae"].tolist() == pytest.approx([2.0] * HORIZON)


def test_several_targets_are_scored_one_by_one() -> None:
    rng = np.random.default_rng(2)
    one = made_up(rng.normal(size=60), 1.0)
    series = replace(
        one.series,
        values=np.hstack([one.series.values, one.series.values * 10]),
        features=("x", "y"),
    )
    truth = np.concatenate([one.truth, one.truth * 10], axis=2)
    quantiles = np.concatenate([one.quantiles, one.quantiles * 10], axis=2)
    both = replace(one, series=series, truth=truth, quantiles=quantiles, targets=("x", "y"))
    table = score([both], season=7).by_series
    assert table["unique_id"].tolist() == ["s/x", "s/y"]
    assert table["mae"].tolist() == pytest.approx([1.0, 10.0])
    assert table["mae_standardised"].iloc[0] == pytest.approx(table["mae_standardised"].iloc[1])


def test_origins_without_enough_past_are_left_out() -> None:
    test = made_up(np.random.default_rng(3).normal(size=60), 1.0, train_rows=30)
    early = replace(test, origins=test.origins - 30)
    assert score([early], season=7, ridge_lookback=10).by_series["windows"].iloc[0] == 27 - 9
    with pytest.raises(ValueError, match="or the ridge's lookback is longer than the 27 rows"):
        score([early], season=28, ridge_lookback=0)


def test_the_table_by_horizon_has_a_row_for_each_step() -> None:
    table = score([made_up(np.arange(60.0), 1.0)], season=1).by_horizon
    assert table["step"].tolist() == [1, 2, 3]
    assert table["mae_last_value"].tolist() == [1, 2, 3]
    assert {"mae_ridge", "mse_standardised", "coverage_80"} <= set(table)


# The ridge


def test_a_ridge_finds_the_line_that_a_series_follows() -> None:
    values = np.sin(np.arange(300) * 0.3) + 2.0
    ridge = Ridge.fit([values[:200]], lookback=4, horizon=5, penalty=1e-9)
    origins = np.arange(200, 290)
    truth = values[origins[:, None] + np.arange(1, 6)]
    np.testing.assert_allclose(ridge.predict(values, origins), truth, atol=1e-4)


def test_a_ridge_solves_the_normal_equations() -> None:
    rng = np.random.default_rng(4)
    train = [rng.normal(size=50), rng.normal(size=30)]
    ridge = Ridge.fit(train, lookback=3, horizon=2, penalty=2.0)
    rows = [
        (one[at - 2 : at + 1] - one[at], one[at + 1 : at + 3] - one[at])
        for one in train
        for at in range(2, len(one) - 2)
    ]
    x = np.array([[*row, 1.0] for row, _ in rows])
    y = np.array([row for _, row in rows])
    expected = np.linalg.solve(x.T @ x + np.diag([2.0, 2.0, 2.0, 0.0]), x.T @ y)
    np.testing.assert_allclose(ridge.weight, expected[:3])
    np.testing.assert_allclose(ridge.bias, expected[3])


def test_a_huge_penalty_leaves_the_last_value() -> None:
    values = np.random.default_rng(5).normal(size=80)
    ridge = replace(Ridge.fit([values], 4, 2, penalty=1e12), bias=np.zeros(2))
    origins = np.arange(40, 70)
    repeated = last_value(values[:, None], origins, 2)[..., 0]
    np.testing.assert_allclose(ridge.predict(values, origins), repeated, atol=1e-6)


def test_a_window_that_was_not_all_observed_teaches_nothing() -> None:
    values = np.random.default_rng(6).normal(size=80)
    holed = values.copy()
    holed[40] = np.nan
    before, after = values[:40], values[41:]
    whole = Ridge.fit([before, after], 4, 2)
    np.testing.assert_allclose(Ridge.fit([holed], 4, 2).weight, whole.weight)


def test_a_lookback_longer_than_the_training_part_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lookback=29, horizon=3: no training part of 30 rows"):
        score([made_up(np.arange(60.0), 1.0)], season=1, ridge_lookback=29)


def test_there_is_no_ridge_if_none_is_asked_for() -> None:
    scores = score([made_up(np.arange(60.0), 1.0)], season=1, ridge_lookback=0)
    assert scores.baselines == ("last_value", "seasonal_naive")
    assert not any("ridge" in name for name in scores.metrics)


# The published setting


@pytest.mark.slow
@pytest.mark.skipif("TIDEGATE_DATA" not in os.environ, reason="needs ETTh1 below TIDEGATE_DATA")
@pytest.mark.parametrize(
    ("horizon", "ridge", "yesterday"),
    [
        (96, 0.370, None),
        (168, 0.397, 0.571),
        (192, 0.403, None),
        (336, 0.428, 0.650),
        (720, 0.434, 0.655),
    ],
)
def test_the_baselines_of_etth1_are_those_measured_elsewhere(
    horizon: int, ridge: float, yesterday: float | None
) -> None:
    """Standard split, standardised, every window of the test part, mean of 7 channels."""
    dataset = CATALOG["etth1"]
    assert dataset.table is not None
    panel = load_panel(table_file(dataset), dataset.table, dataset.cuts)
    tests = backtests(forecaster(panel, horizon), panel.splits, "test")
    assert len(tests[0].origins) == 2880 - horizon + 1
    metrics = score(tests, season=24, ridge_lookback=336).metrics
    assert metrics["mse_standardised_ridge"] == pytest.approx(ridge, abs=5e-4)
    if yesterday:
        assert metrics["mse_standardised_seasonal_naive"] == pytest.approx(yesterday, abs=5e-4)


@pytest.mark.slow
@pytest.mark.skipif("TIDEGATE_DATA" not in os.environ, reason="needs S&P 500 below TIDEGATE_DATA")
def test_a_return_of_zero_and_always_up_are_those_measured_elsewhere() -> None:
    config = load(EXAMPLES / "sp500.toml")
    panel = load_series(DataSettings.of(config))
    (test,) = backtests(forecaster(panel, 1), panel.splits, "test")
    metrics = score([test], season=5).metrics
    assert len(test.origins) == 502
    assert metrics["mae_last_value"] == pytest.approx(0.00523, abs=5e-6)
    assert metrics["mse_last_value"] ** 0.5 == pytest.approx(0.00818, abs=5e-6)
    # Of 501 days that moved; of all 502 it is 54.8 %.
    assert metrics["direction_always_up"] * 501 / 502 == pytest.approx(0.548, abs=5e-4)
