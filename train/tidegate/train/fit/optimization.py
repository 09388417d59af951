"""How the weights move: optimizer, learning rate, averaging."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, assert_never

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from tidegate.train.arguments import check_choice
from tidegate.train.fit.schedules import (
    SCHEDULES,
    Schedule,
    ScheduleName,
    constant,
    cosine,
    plateau,
)

OptimizerName = Literal["adamw", "sgd"]
_OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adamw": AdamW, "sgd": SGD}


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """Settings of the gradient steps.

    Attributes:
        learning_rate: at the beginning.
        optimizer: "adamw", or "sgd" without momentum.
        weight_decay: decoupled in AdamW.
        clip: largest norm of the whole gradient.
        schedule: of the learning rate: "cosine", to a tenth along half a cosine;
            "constant"; "plateau", times ``plateau_factor`` after
            ``plateau_patience`` epochs without a better metric.
        plateau_patience: in epochs.
        plateau_factor: between 0 and 1.
        average: validate and keep the mean of the weights once validation gets
            worse; with "sgd" and "constant" this is NT-ASGD. See
            :class:`tidegate.train.fit.averaging.NonMonotonicAveraging`.
        non_monotone_interval: of ``average``, in epochs.

    Raises:
        ValueError: a name is unknown.
    """

    learning_rate: float
    optimizer: OptimizerName = "adamw"
    weight_decay: float = 0.0
    clip: float = 1.0
    schedule: ScheduleName = "cosine"
    plateau_patience: int = 3
    plateau_factor: float = 0.25
    average: bool = False
    non_monotone_interval: int = 5

    def __post_init__(self) -> None:
        check_choice("optimizer", self.optimizer, _OPTIMIZERS)
        check_choice("schedule", self.schedule, SCHEDULES)

    def build_optimizer(self, model: nn.Module) -> Optimizer:
        """The optimizer of all weights."""
        return _OPTIMIZERS[self.optimizer](
            model.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
        )

    def build_schedule(
        self, optimizer: Optimizer, epochs: int, *, higher_is_better: bool
    ) -> Schedule:
        """What moves the optimizer's learning rate.

        Args:
            optimizer: from :meth:`build_optimizer`.
            epochs: of the cosine.
            higher_is_better: which way the monitored metric improves.
        """
        match self.schedule:
            case "cosine":
                return cosine(optimizer, epochs)
            case "constant":
                return constant(optimizer)
            case "plateau":
                return plateau(
                    optimizer,
                    self.plateau_patience,
                    self.plateau_factor,
                    higher_is_better=higher_is_better,
                )
            case _:
                assert_never(self.schedule)
