"""A whole training run, step by step: load, build, fit, evaluate, export, register.

:func:`run` is these steps in their order; each can be called by itself.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tidegate.train import checkpoint, interrupted_run, tracking
from tidegate.train.accuracy import TOLERANCE, build_judge, build_mc_judge
from tidegate.train.build import build_model, load_data
from tidegate.train.config import Config
from tidegate.train.data.catalog import find_dataset
from tidegate.train.data.series import Part
from tidegate.train.export import WeightFormat, export_onnx
from tidegate.train.fit import (
    Compute,
    Epoch,
    Fitted,
    Optimization,
    Processes,
    choose_device,
    fit,
)
from tidegate.train.interrupted_run import InterruptedRun
from tidegate.train.pretrained import use_vectors
from tidegate.train.tasks import TASKS, Data, Evaluation
from tidegate.v1.model_spec_pb2 import ModelSpec

logger = logging.getLogger(__name__)

DEFAULT_OUTPUT = Path(".tidegate/models")


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
    model: nn.Module
    fitted: Fitted
    evaluation: Evaluation[Any]
    path: Path
    spec: ModelSpec
    run_id: str
    registered: tracking.Registered


def run(
    config: Config,
    output: str | Path = DEFAULT_OUTPUT,
    *,
    resume: bool = False,
    processes: Processes | None = None,
) -> Result:
    """Trains, evaluates, exports and registers one model.

    Of several processes the first one runs this, the others :func:`assist`. Until
    the model is registered, ``<name>/training.pt`` holds where training stands, as
    of the last epoch or of SIGINT.

    Args:
        config: from :func:`tidegate.train.config.load`.
        output: folder that gets ``<name>/model.onnx`` and ``<name>/model.pt``.
        resume: go on from ``training.pt``, in the same MLflow run.
        processes: those that train the model together; None: this one alone.

    Raises:
        ValueError: configuration and data do not fit each other, what is to be
            resumed is not there or does not fit them, or there is no such device.
        TrainingError: training went astray.
        Interrupted: SIGINT stopped it, and it can be resumed.
        ParityError: ONNX Runtime disagrees with PyTorch; nothing was written.
    """
    processes = processes or Processes()
    compute = build_compute(config, processes)
    data = load_data(config)
    digest = data.digest()
    model = build_model(config, data)
    folder = Path(output) / config.name
    standing = folder / interrupted_run.FILE_NAME
    earlier = interrupted_run.load(standing, config, digest) if resume else None
    with track(config, data, earlier.run_id if earlier else None) as tracked:

        def save(training: dict[str, Any]) -> None:
            stopped = InterruptedRun(tracked.id, training)
            interrupted_run.save(standing, config, digest, stopped)

        tracked.set_tag("device", str(compute))
        tracked.set_tag("processes", str(processes.count))
        training = processes.of_first(earlier.training if earlier else None)
        fitted = train(
            config, model, data, tracked, resume=training, save=save, processes=processes
        )
        checkpoint.save(folder / "model.pt", config, model)
        evaluation = evaluate(config, model, data)
        report(config, evaluation, tracked)
        path = folder / "model.onnx"
        spec = export(config, model, data, evaluation, path, tracked)
        registered = tracked.register(path, spec, config.registered_model, score(data, fitted))
    standing.unlink()
    return Result(config, data, model, fitted, evaluation, path, spec, tracked.id, registered)


def assist(config: Config, processes: Processes) -> Fitted:
    """Takes part in the training of a run whose first process is another one."""
    data = load_data(config)
    model = build_model(config, data)
    training = processes.of_first(None)
    return train(config, model, data, resume=training, save=_leave_it, processes=processes)


def _leave_it(_: dict[str, Any]) -> None:
    """The first process saves."""


@contextmanager
def track(
    config: Config, data: Data, run_id: str | None = None, *, parent: str | None = None
) -> Iterator[tracking.Run]:
    """Begins the MLflow run, with configuration and data set logged.

    Args:
        config: of the run.
        data: of the run.
        run_id: of an interrupted run to go on with, which has both already.
        parent: id of the run to nest this one in.
    """
    section = config.tracking
    tags = {"task": config.task, **({tracking.PARENT_TAG: parent} if parent else {})}
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
    model: nn.Module,
    data: Data,
    tracked: tracking.Run | None = None,
    *,
    resume: Mapping[str, Any] | None = None,
    save: Callable[[dict[str, Any]], None] | None = None,
    processes: Processes | None = None,
    after_epoch: Sequence[Callable[[Epoch], None]] = (),
) -> Fitted:
    """Fits a model; it then has the weights of its best epoch, and is on the CPU.

    Args:
        config: of the run.
        model: from :func:`tidegate.train.build.build_model`.
        data: from :func:`tidegate.train.build.load_data`.
        tracked: where metrics and pictures of each epoch go; None: nowhere.
        resume: as :func:`tidegate.train.fit.fit` takes it.
        save: likewise.
        processes: likewise.
        after_epoch: called after what the task itself does after an epoch.
    """
    processes = processes or Processes()
    section, task = config.training, TASKS[config.task]
    torch.manual_seed(config.seed)
    coverage = begin_with_vectors(config, model)
    hooks: list[Callable[[Epoch], None]] = []
    if tracked is not None:
        if coverage is not None:
            tracked.log_metrics({"vector_coverage": coverage})
        hooks.append(lambda epoch: tracked.log_metrics(epoch.metrics, epoch.number))
        hooks += task.after_epoch(config, model, data, tracked)
    hooks += after_epoch
    fitted = fit(
        task.fit_task(config, model, data),
        build_optimization(config),
        epochs=section.epochs,
        patience=section.patience,
        after_epoch=hooks,
        title=config.name,
        resume=resume,
        save=save,
        compute=build_compute(config, processes),
        processes=processes,
    )
    model.cpu()
    task.after_fit(config, model, data)
    return fitted


def build_compute(config: Config, processes: Processes) -> Compute:
    """Device and precision of ``[training]``.

    Raises:
        ValueError: there is no such device, or it has no such precision.
    """
    section = config.training
    return Compute(choose_device(section.device, processes.local_rank), section.precision)


def begin_with_vectors(config: Config, model: nn.Module) -> float | None:
    """Puts pretrained vectors in the place of embeddings' first values.

    Not part of building a model: one that is loaded has embeddings of its own.

    Returns:
        The share of the vocabulary that the file has; None: there is no file.
    """
    section = config.model
    if section.vectors is None:
        return None
    coverage = use_vectors(
        *TASKS[config.task].word_embedding(model),
        section.vectors,
        freeze=section.freeze_vectors,
        encoding=section.vectors_encoding,
    )
    logger.info("%s has %.1f %% of the vocabulary", section.vectors, 100 * coverage)
    return coverage


def build_optimization(config: Config) -> Optimization:
    """The gradient steps of ``[training]``."""
    section = config.training
    return Optimization(**{one.name: getattr(section, one.name) for one in fields(Optimization)})


def evaluate(
    config: Config,
    model: nn.Module,
    data: Data,
    part: Part = "test",
    *,
    mc_samples: int | None = None,
) -> Evaluation[Any]:
    """Scores a model on one part; the predictions are of the task's own type.

    Args:
        config: of the run.
        model: trained.
        data: of the run.
        part: that is scored.
        mc_samples: networks whose mean prediction is scored; None: the network of
            inference.

    Raises:
        ValueError: the model has no networks to sample.
    """
    task = TASKS[config.task]
    if mc_samples is None:
        return task.evaluate(config, model, data, part)
    return task.evaluate_monte_carlo(config, model, data, part, mc_samples)


def report(config: Config, evaluation: Evaluation[Any], tracked: tracking.Run) -> None:
    """Logs scores, tables and figures of the test part."""
    tracked.log_metrics({f"test_{name}": value for name, value in evaluation.metrics.items()})
    for name, table in evaluation.tables.items():
        tracked.log_table(table, f"{name}.json")
    TASKS[config.task].report(config, evaluation, tracked)


def export(
    config: Config,
    model: nn.Module,
    data: Data,
    evaluation: Evaluation[Any],
    path: str | Path,
    tracked: tracking.Run | None = None,
    *,
    weights: WeightFormat = "float32",
    mc_masks: bool = False,
    tolerance: float = TOLERANCE,
) -> ModelSpec:
    """Writes the ONNX file, once ONNX Runtime agrees with PyTorch.

    Args:
        config: of the run.
        model: trained.
        data: of the run.
        evaluation: of the test part, for the spec.
        path: of the file.
        tracked: gets the parity; None: nowhere.
        weights: "float32", or "int8", which is judged by the validation metric; the
            spec then has the test scores of the rounded weights.
        mc_masks: whether masks of Monte Carlo inference are inputs; the spec then has the
            test scores of the mean of ten networks, whose validation scores are judged.
        tolerance: share by which rounded weights may make that metric worse, or scores
            of those networks differ from the trained model's.

    Raises:
        ValueError: both variants are asked for.
        AccuracyError: they make it worse by more; nothing was written.
        ParityError: it does not; nothing was written.
    """
    if mc_masks and weights != "float32":
        raise ValueError(f"mc_masks=True with weights={weights!r}; a file is one variant: choose")
    build = build_mc_judge if mc_masks else build_judge
    is_plain = weights == "float32" and not mc_masks
    spec = export_onnx(
        model,
        path,
        name=config.name,
        metrics=evaluation.metrics,
        data_digest=data.digest(),
        git_commit=tracked.git_commit if tracked else "",
        mlflow_run_id=tracked.id if tracked else "",
        weights=weights,
        mc_masks=mc_masks,
        judge=None if is_plain else build(config, model, data, tolerance),
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
