"""Forecasting: series read step by step, and what comes next."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from typing_extensions import override

from tidegate.train import fit, plots, tracking
from tidegate.train.config import Config, DataSettings
from tidegate.train.data.check import Checked
from tidegate.train.data.check_series import check_series
from tidegate.train.data.panel import Panel
from tidegate.train.data.series import Part
from tidegate.train.depth import warn_if_deep
from tidegate.train.evaluate.backtest import Backtest, backtests
from tidegate.train.evaluate.conformal import calibrate
from tidegate.train.evaluate.forecasting import score
from tidegate.train.forecaster import Forecaster
from tidegate.train.heads import HEADS, NegativeBinomialHead, QuantileHead
from tidegate.train.heads.negative_binomial import check_counts
from tidegate.train.inference import sampled_networks
from tidegate.train.scaler import Scaler, find_scaler
from tidegate.train.segments import Segments
from tidegate.train.tasks.definition import Evaluation, TaskDefinition
from tidegate.train.tasks.recurrent import build_recurrent
from tidegate.train.tasks.series import load_series


class Forecasting(TaskDefinition[Panel, Forecaster, tuple[Backtest, ...]]):
    """``task = "forecasting"``."""

    @override
    def load_data(self, settings: DataSettings) -> Panel:
        return load_series(settings)

    @override
    def check_data(self, settings: DataSettings) -> Checked:
        return check_series(lambda report: load_series(settings, report))

    @override
    def build_model(self, config: Config, data: Panel) -> Forecaster:
        warn_if_deep(config.model.num_layers, sum(map(len, data.train)))
        segments = Segments(
            config.model.segment, config.model.channel_independent, config.model.lags
        )
        return Forecaster(
            build_recurrent(config, segments.input_size(len(data.features))),
            features=data.features,
            units=data.units,
            targets=data.targets,
            horizon=config.forecast.horizon,
            quantile_levels=config.forecast.quantile_levels,
            scaler=_scaler(config, data),
            frequency=data.frequency,
            segment=segments.length,
            channel_independent=segments.channel_independent,
            lags=segments.lags,
            head=HEADS[config.forecast.head],
            **_head_options(config, data),
        )

    @override
    def fit_task(self, config: Config, model: Forecaster, data: Panel) -> fit.Task:
        section = config.training
        return fit.ForecastingTask(
            model,
            data.splits,
            section.lanes,
            section.bptt,
            config.seed,
            config.forecast.warmup,
            section.persistent_masks,
            section.lookback,
            section.stride,
        )

    @override
    def pictures(self, predictions: tuple[Backtest, ...]) -> Iterator[tuple[str, Figure]]:
        yield "forecast", plots.forecast_figure(predictions[0])

    @override
    def after_fit(self, config: Config, model: Forecaster, data: Panel) -> None:
        if config.forecast.conformal:
            calibrate(model, data.splits, config.forecast.warmup)

    @override
    def evaluate(
        self, config: Config, model: Forecaster, data: Panel, part: Part
    ) -> Evaluation[tuple[Backtest, ...]]:
        return _scored(config, backtests(model, data.splits, part))

    @override
    def evaluate_monte_carlo(
        self,
        config: Config,
        model: Forecaster,
        data: Panel,
        part: Part,
        mc_samples: int,
    ) -> Evaluation[tuple[Backtest, ...]]:
        with closing(sampled_networks(model, mc_samples)) as networks:
            of_each = [backtests(model, data.splits, part) for _ in networks]
        forecasts = tuple(
            replace(found[0], quantiles=np.mean([one.quantiles for one in found], axis=0))
            for found in zip(*of_each, strict=True)
        )
        return _scored(config, forecasts)

    @override
    def report(
        self,
        config: Config,
        evaluation: Evaluation[tuple[Backtest, ...]],
        tracked: tracking.Run,
    ) -> None:
        tracked.log_figure(plots.forecast_figure(evaluation.predictions[0]), "forecast.png")
        figure = plots.horizon_figure(evaluation.tables["by_horizon"])
        tracked.log_figure(figure, "by_horizon.png")


def _scored(config: Config, forecasts: tuple[Backtest, ...]) -> Evaluation[tuple[Backtest, ...]]:
    scores = score(forecasts, config.forecast.season, config.forecast.ridge_lookback)
    tables = {"by_series": scores.by_series, "by_horizon": scores.by_horizon}
    return Evaluation(scores.metrics, forecasts, tables)


def _head_options(config: Config, data: Panel) -> dict[str, Any]:
    """Arguments of the head, once its targets have been checked."""
    if config.forecast.head == QuantileHead.name:
        return {"loss": config.forecast.loss}
    if config.forecast.head != NegativeBinomialHead.name:
        return {}
    for target, column in zip(data.targets, data.columns(data.targets), strict=True):
        for one in data.train:
            check_counts(target, one.values[:, column])
    return {"largest_count": config.forecast.largest_count}


def _scaler(config: Config, data: Panel) -> Scaler:
    """Fitted to the training parts, and to nothing else."""
    differenced = data.columns(config.dataset.differenced)
    flags = [column in differenced for column in range(len(data.features))]
    parts = [one.values for one in data.train]
    indicators = data.columns(sorted(data.splits[0].series.indicators))
    return find_scaler(config.dataset.scaler).fit(
        parts, flags, indicators, data.features, config.dataset.differenced_scale
    )
