"""The step that trains: the loop, with what the configuration says of it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from torch import nn

from tidegate.train import tracking
from tidegate.train.config import Config
from tidegate.train.fit import (
    Compute,
    Epoch,
    Fitted,
    Optimization,
    Processes,
    choose_device,
    fit,
)
from tidegate.train.pretrained import use_vectors
from tidegate.train.tasks import TASKS, Data

logger = logging.getLogger(__name__)


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
        after_epoch: called after an epoch is tracked.
    """
    processes = processes or Processes()
    section, task = config.training, TASKS[config.task]
    torch.manual_seed(config.seed)
    coverage = begin_with_vectors(config, model)
    hooks: list[Callable[[Epoch], None]] = []
    if tracked is not None:
        if coverage is not None:
            tracked.log_metrics({"vector_coverage": coverage})
        hooks.append(partial(_log_epoch, config, tracked))
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


def _log_epoch(config: Config, tracked: tracking.Run, epoch: Epoch) -> None:
    """Logs an epoch's metrics and, now and then, its pictures."""
    tracked.log_metrics(epoch.metrics, epoch.number)
    if epoch.number == 1 or epoch.number % config.tracking.picture_every == 0:
        for name, figure in TASKS[config.task].pictures(epoch.predictions):
            tracked.log_picture(name, figure, epoch.number)


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
