"""The steps that score a trained model and log what came of it."""

from typing import Any

from torch import nn

from tidegate.train import tracking
from tidegate.train.config import Config
from tidegate.train.data.series import Part
from tidegate.train.fit import Fitted
from tidegate.train.tasks import TASKS, Data, Evaluation


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


def score(data: Data, fitted: Fitted) -> tracking.Score:
    """What the registry judges a run by: the validation metric of its best epoch."""
    metric = fitted.monitor
    return tracking.Score(
        metric, fitted.best.metrics[metric], fitted.higher_is_better, data.digest()
    )
