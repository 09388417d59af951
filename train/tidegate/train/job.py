"""A whole training run, step by step: load, build, fit, evaluate, export, register.

:func:`run` is these steps in their order; each can be called by itself.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, assert_never

import torch

from tidegate.train import checkpoint, interrupted_run, plots, tracking
from tidegate.train.build import Data, Model, build_model, load_data
from tidegate.train.config import Config
from tidegate.train.data.catalog import find_dataset
from tidegate.train.data.sentences import SentenceSplit, ambiguous_words
from tidegate.train.data.series import Part, SeriesSplit
from tidegate.train.evaluate.backtest import Backtest, backtest
from tidegate.train.evaluate.forecasting import by_horizon, forecast_metrics
from tidegate.train.evaluate.labelling import Answers, predict
from tidegate.train.export import export_onnx
from tidegate.train.fit import (
    Epoch,
    Fitted,
    ForecastingTask,
    LabellingTask,
    Optimization,
    Task,
    fit,
)
from tidegate.train.forecaster import Forecaster
from tidegate.train.interrupted_run import InterruptedRun
from tidegate.train.labeller import Labeller
from tidegate.v1.model_spec_pb2 import ModelSpec

DEFAULT_OUTPUT = Path(".tidegate/models")


@dataclass(frozen=True)
class Evaluation:
    """Scores of a part, and the predictions that they are of.

    Attributes:
        metrics: by name.
        predictions: forecasts, or labels given.
    """

    metrics: dict[str, float]
    predictions: Backtest | Answers


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        config: of the run.
        data: in three parts.
        model: trained, in evaluation mode.
        fitted: the epochs.
        evaluation: of the test part.
        path: of the ONNX file.
        spec: of the file.
        run_id: MLflow's.
        registered: the version in MLflow's registry.
    """

    config: Config
    data: Data
    model: Model
    fitted: Fitted
    evaluation: Evaluation
    path: Path
    spec: ModelSpec
    run_id: str
    registered: tracking.Registered


def run(config: Config, output: str | Path = DEFAULT_OUTPUT, *, resume: bool = False) -> Result:
    """Trains, evaluates, exports and registers one model.

    Until the model is registered, ``<name>/training.pt`` holds where training
    stands, as of the last epoch or of SIGINT.

    Args:
        config: from :func:`tidegate.train.config.load`.
        output: folder that gets ``<name>/model.onnx`` and ``<name>/model.pt``.
        resume: go on from ``training.pt``, in the same MLflow run.

    Raises:
        ValueError: configuration and data do not fit each other, or what is
            to be resumed is not there or does not fit them.
        TrainingError: training went astray.
        Interrupted: SIGINT stopped it, and it can be resumed.
        ParityError: ONNX Runtime disagrees with PyTorch; nothing was written.
    """
    data = load_data(config)
    model = build_model(config, data)
    folder = Path(output) / config.name
    standing = folder / interrupted_run.FILE_NAME
    earlier = interrupted_run.load(standing, config, data.digest()) if resume else None
    with track(config, data, earlier.run_id if earlier else None) as tracked:

        def save(training: dict[str, Any]) -> None:
            stopped = InterruptedRun(tracked.id, training)
            interrupted_run.save(standing, config, data.digest(), stopped)

        training = earlier.training if earlier else None
        fitted = train(config, model, data, tracked, resume=training, save=save)
        checkpoint.save(folder / "model.pt", config, model)
        evaluation = evaluate(config, model, data)
        report(config, evaluation, tracked)
        path = folder / "model.onnx"
        spec = export(config, model, data, evaluation, path, tracked)
        registered = tracked.register(path, spec, config.registered_model, score(data, fitted))
    standing.unlink()
    return Result(config, data, model, fitted, evaluation, path, spec, tracked.id, registered)


@contextmanager
def track(config: Config, data: Data, run_id: str | None = None) -> Iterator[tracking.Run]:
    """Begins the MLflow run, with configuration and data set logged.

    Args:
        config: of the run.
        data: of the run.
        run_id: of an interrupted run to go on with, which has both already.
    """
    section = config.tracking
    tags = {"task": config.task}
    with tracking.start_run(section.uri, section.experiment, config.name, tags, run_id) as tracked:
        if run_id is not None:
            yield tracked
            return
        tracked.log_config(config.model_dump(mode="json"), config.flat())
        dataset = find_dataset(config.dataset.name)
        tracked.log_dataset(dataset.name, data.digest(), dataset.source, "training")
        yield tracked


def train(
    config: Config,
    model: Model,
    data: Data,
    tracked: tracking.Run | None = None,
    *,
    resume: Mapping[str, Any] | None = None,
    save: Callable[[dict[str, Any]], None] | None = None,
) -> Fitted:
    """Fits a model; it then has the weights of its best epoch.

    Args:
        config: of the run.
        model: from :func:`tidegate.train.build.build_model`.
        data: from :func:`tidegate.train.build.load_data`.
        tracked: where metrics and pictures of each epoch go; None: nowhere.
        resume: as :func:`tidegate.train.fit.fit` takes it.
        save: likewise.
    """
    section = config.training
    torch.manual_seed(config.seed)
    hooks: list[Callable[[Epoch], None]] = []
    if tracked is not None:
        hooks.append(lambda epoch: tracked.log_metrics(epoch.metrics, epoch.number))
        if isinstance(model, Forecaster) and isinstance(data, SeriesSplit):
            hooks.append(_picture_hook(config, model, data, tracked))
    return fit(
        build_task(config, model, data),
        build_optimization(config),
        epochs=section.epochs,
        patience=section.patience,
        after_epoch=hooks,
        title=config.name,
        resume=resume,
        save=save,
    )


def build_optimization(config: Config) -> Optimization:
    """The gradient steps of ``[training]``."""
    section = config.training
    return Optimization(**{one.name: getattr(section, one.name) for one in fields(Optimization)})


def build_task(config: Config, model: Model, data: Data) -> Task:
    """Model and data as the loop takes them.

    Raises:
        TypeError: the one is for sentences and the other for series.
    """
    section = config.training
    if isinstance(model, Forecaster) and isinstance(data, SeriesSplit):
        return ForecastingTask(
            model,
            [data],
            section.lanes,
            section.bptt,
            config.seed,
            config.forecast.warmup,
            section.persistent_masks,
        )
    if isinstance(model, Labeller) and isinstance(data, SentenceSplit):
        return LabellingTask(model, data, section.tokens, config.seed)
    raise TypeError(f"a {type(model).__name__} does not learn from a {type(data).__name__}")


def evaluate(config: Config, model: Model, data: Data, part: Part = "test") -> Evaluation:
    """Scores a model on one part.

    Raises:
        TypeError: model and data are for different tasks.
    """
    if isinstance(model, Forecaster) and isinstance(data, SeriesSplit):
        forecasts = backtest(model, data, part)
        return Evaluation(forecast_metrics(forecasts, config.forecast.season), forecasts)
    if isinstance(model, Labeller) and isinstance(data, SentenceSplit):
        answers = predict(model, getattr(data, part))
        metrics = answers.metrics()
        if model.label_names:
            words = ambiguous_words(data.train, lower_case=model.lower_case)
            ambiguous = answers.accuracy_on(words, lower_case=model.lower_case)
            metrics["accuracy_ambiguous"] = ambiguous
        return Evaluation(metrics, answers)
    raise TypeError(f"a {type(model).__name__} is not scored on a {type(data).__name__}")


def report(config: Config, evaluation: Evaluation, tracked: tracking.Run) -> None:
    """Logs scores, tables and figures of the test part."""
    tracked.log_metrics({f"test_{name}": value for name, value in evaluation.metrics.items()})
    match evaluation.predictions:
        case Backtest() as forecasts:
            table = by_horizon(forecasts, config.forecast.season)
            tracked.log_figure(plots.forecast_figure(forecasts), "forecast.png")
            tracked.log_figure(plots.horizon_figure(table), "by_horizon.png")
            tracked.log_table(table, "by_horizon.json")
        case Answers() as answers:
            for name, table in answers.tables().items():
                tracked.log_table(table, f"{name}.json")
            for name, (counts, names) in answers.confusions().items():
                if len(names) <= plots.MOST_LABELS:
                    figure = plots.confusion_figure(counts, names)
                    tracked.log_figure(figure, f"{name}.png")
        case _:
            assert_never(evaluation.predictions)


def export(
    config: Config,
    model: Model,
    data: Data,
    evaluation: Evaluation,
    path: str | Path,
    tracked: tracking.Run | None = None,
) -> ModelSpec:
    """Writes the ONNX file, once ONNX Runtime agrees with PyTorch.

    Raises:
        ParityError: it does not; nothing was written.
    """
    spec = export_onnx(
        model,
        path,
        name=config.name,
        metrics=evaluation.metrics,
        data_digest=data.digest(),
        git_commit=tracked.git_commit if tracked else "",
        mlflow_run_id=tracked.id if tracked else "",
    )
    if tracked is not None:
        tracked.log_metrics(tracking.parity_metrics(spec))
    return spec


def score(data: Data, fitted: Fitted) -> tracking.Score:
    """What the registry judges a run by: the validation metric of its best epoch."""
    metric = fitted.monitor
    return tracking.Score(
        metric, fitted.best.metrics[metric], fitted.higher_is_better, data.digest()
    )


def _picture_hook(
    config: Config, model: Forecaster, data: SeriesSplit, tracked: tracking.Run
) -> Callable[[Epoch], None]:
    def draw(epoch: Epoch) -> None:
        if epoch.number == 1 or epoch.number % config.tracking.picture_every == 0:
            forecasts = backtest(model, data, "validation", config.forecast.warmup)
            tracked.log_picture("forecast", plots.forecast_figure(forecasts), epoch.number)

    return draw
