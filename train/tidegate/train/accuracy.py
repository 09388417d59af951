"""What a variant of the file may cost of the task's metric."""

from collections.abc import Mapping

import torch
from torch import nn

from tidegate.train.config import Config
from tidegate.train.export import Judge, WeightFormat
from tidegate.train.tasks import TASKS, Data

# Share by which rounded weights may make the validation metric worse.
TOLERANCE = 0.01
# Networks whose mean is scored; the gate compares the same ones on both sides.
MC_SAMPLES = 10


class AccuracyError(ValueError):
    """Rounded weights cost more of the metric than was allowed."""


def build_judge(
    config: Config, model: nn.Module, data: Data, tolerance: float, weights: WeightFormat
) -> Judge:
    """Compares a model's validation metric with the trained one's; gives its test scores.

    Args:
        config: of the run.
        model: trained.
        data: of the run.
        tolerance: share by which the metric may be worse.
        weights: how the file holds them, for the error.

    Raises:
        ValueError: the tolerance is no share.
    """
    _check_tolerance(tolerance)

    def judge(rounded: nn.Module) -> Mapping[str, float]:
        name, higher_is_better, before = _validated(config, model, data)
        after = _validated(config, rounded, data)[-1]
        loss = before - after if higher_is_better else after - before
        if not loss <= tolerance * abs(before):
            raise AccuracyError(
                f"weights={weights!r} takes {name} from {before:.6g} to {after:.6g}, by more than "
                f"tolerance={tolerance:g} allows; nothing was written. Export float32"
            )
        return TASKS[config.task].evaluate(config, rounded, data, "test").metrics

    return judge


def build_mc_judge(config: Config, model: nn.Module, data: Data, tolerance: float) -> Judge:
    """Compares scores of the mean over sampled networks; gives those of the test part.

    Args:
        config: of the run.
        model: trained.
        data: of the run.
        tolerance: share by which a score of the validation part may differ.

    Raises:
        ValueError: the tolerance is no share.
    """
    _check_tolerance(tolerance)

    def judge(exported: nn.Module) -> Mapping[str, float]:
        task = TASKS[config.task]
        before, after = (
            task.evaluate_monte_carlo(config, one, data, "validation", MC_SAMPLES).metrics
            for one in (model, exported)
        )
        for name, value in before.items():
            if not abs(after[name] - value) <= tolerance * abs(value):
                raise AccuracyError(
                    f"mc_masks=True takes {name} of the mean of {MC_SAMPLES} networks from "
                    f"{value:.6g} to {after[name]:.6g}, by more than tolerance={tolerance:g} "
                    "allows; nothing was written"
                )
        return task.evaluate_monte_carlo(config, exported, data, "test", MC_SAMPLES).metrics

    return judge


def _check_tolerance(tolerance: float) -> None:
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance={tolerance!r} is no share; give a number from 0 to below 1")


@torch.no_grad()
def _validated(config: Config, model: nn.Module, data: Data) -> tuple[str, bool, float]:
    """The validation metric: its name, whether higher is better, and its value."""
    task = TASKS[config.task].fit_task(config, model.eval(), data)
    return task.monitor, task.higher_is_better, task.validate().metrics[task.monitor]
