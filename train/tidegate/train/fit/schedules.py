"""How the learning rate moves from epoch to epoch."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

ScheduleName = Literal["cosine", "constant", "plateau"]
SCHEDULES = ("cosine", "constant", "plateau")


class EpochSchedule:
    """The initial rate times a factor of the epochs passed.

    Not torch's LambdaLR, which warns when a run is resumed between the last step of
    an epoch and its end.

    Args:
        optimizer: whose rate moves.
        factor: of the number of epochs passed, 0 in the first.
    """

    def __init__(self, optimizer: Optimizer, factor: Callable[[int], float]) -> None:
        self._optimizer = optimizer
        self._factor = factor
        self._initial = [group["lr"] for group in optimizer.param_groups]
        self._passed = 0

    def step(self, metric: float) -> None:  # noqa: ARG002 - as a plateau's
        """Ends an epoch."""
        self._passed += 1
        for group, initial in zip(self._optimizer.param_groups, self._initial, strict=True):
            group["lr"] = initial * self._factor(self._passed)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs beside the optimizer's own state."""
        return {"passed": self._passed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from another's :meth:`state_dict`."""
        self._passed = state["passed"]


Schedule = EpochSchedule | ReduceLROnPlateau


def cosine(optimizer: Optimizer, epochs: int) -> EpochSchedule:
    """To a tenth of the rate along half a cosine."""
    return EpochSchedule(
        optimizer, lambda passed: 0.55 + 0.45 * math.cos(math.pi * passed / epochs)
    )


def constant(optimizer: Optimizer) -> EpochSchedule:
    """The rate as it is."""
    return EpochSchedule(optimizer, lambda _: 1.0)


def plateau(
    optimizer: Optimizer, patience: int, factor: float, *, higher_is_better: bool
) -> ReduceLROnPlateau:
    """Times ``factor`` after more than ``patience`` epochs without a better metric."""
    return ReduceLROnPlateau(
        optimizer,
        mode="max" if higher_is_better else "min",
        factor=factor,
        patience=patience,
        threshold=0.0,
    )
