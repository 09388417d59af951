"""Forecasting: one series read step by step, and what comes next."""

from collections.abc import Callable, Sequence

from typing_extensions import override

from tidegate.train import fit, plots, tracking
from tidegate.train.config import Config
from tidegate.train.data.co2 import load_co2
from tidegate.train.data.csv_series import load_csv
from tidegate.train.data.series import Part, Series, SeriesSplit, split_by_time
from tidegate.train.depth import warn_if_deep
from tidegate.train.evaluate.backtest import Backtest, backtest
from tidegate.train.evaluate.forecasting import by_horizon, forecast_metrics
from tidegate.train.forecaster import Forecaster
from tidegate.train.scaler import StandardScaler
from tidegate.train.tasks.definition import Evaluation, TaskDefinition
from tidegate.train.tasks.recurrent import build_recurrent


class Forecasting(TaskDefinition[SeriesSplit, Forecaster, Backtest]):
    """``task = "forecasting"``."""

    @override
    def load_data(self, config: Config) -> SeriesSplit:
        section = config.dataset
        return split_by_time(_load_series(config), section.train_until, section.validation_until)

    @override
    def build_model(self, config: Config, data: SeriesSplit) -> Forecaster:
        train, section = data.train, config.dataset
        warn_if_deep(config.model.num_layers, len(train))
        differenced = set(train.columns(section.differenced))
        targets = section.targets or train.features[:1]
        train.columns(targets)
        return Forecaster(
            build_recurrent(config, len(train.features)),
            features=train.features,
            units=train.units,
            targets=targets,
            horizon=config.forecast.horizon,
            quantile_levels=config.forecast.quantile_levels,
            scaler=StandardScaler.fit(
                train.values, [column in differenced for column in range(len(train.features))]
            ),
            frequency=train.frequency,
        )

    @override
    def fit_task(self, config: Config, model: Forecaster, data: SeriesSplit) -> fit.Task:
        section = config.training
        return fit.ForecastingTask(
            model,
            [data],
            section.lanes,
            section.bptt,
            config.seed,
            config.forecast.warmup,
            section.persistent_masks,
        )

    @override
    def after_epoch(
        self, config: Config, model: Forecaster, data: SeriesSplit, tracked: tracking.Run
    ) -> Sequence[Callable[[fit.Epoch], None]]:
        def draw(epoch: fit.Epoch) -> None:
            if epoch.number == 1 or epoch.number % config.tracking.picture_every == 0:
                forecasts = backtest(model, data, "validation", config.forecast.warmup)
                tracked.log_picture("forecast", plots.forecast_figure(forecasts), epoch.number)

        return (draw,)

    @override
    def evaluate(
        self, config: Config, model: Forecaster, data: SeriesSplit, part: Part
    ) -> Evaluation[Backtest]:
        forecasts = backtest(model, data, part)
        return Evaluation(forecast_metrics(forecasts, config.forecast.season), forecasts)

    @override
    def report(
        self, config: Config, evaluation: Evaluation[Backtest], tracked: tracking.Run
    ) -> None:
        forecasts = evaluation.predictions
        table = by_horizon(forecasts, config.forecast.season)
        tracked.log_figure(plots.forecast_figure(forecasts), "forecast.png")
        tracked.log_figure(plots.horizon_figure(table), "by_horizon.png")
        tracked.log_table(table, "by_horizon.json")


def _load_series(config: Config) -> Series:
    section = config.dataset
    if section.name == "co2":
        return load_co2()
    if section.path is None:
        raise ValueError("dataset.path is missing; give the path of the CSV file")
    return load_csv(section.path, section.frequency, units=section.units)
