"""Early stopping: remembers the best weights and says when to give up."""

import math
from collections.abc import Mapping
from typing import Any

from torch import nn


class EarlyStopping:
    """Watches one metric.

    Args:
        model: whose weights are remembered.
        patience: epochs without a better metric before it says stop.
        higher_is_better: which way the metric improves.
    """

    def __init__(self, model: nn.Module, patience: int, *, higher_is_better: bool) -> None:
        self._model = model
        self._patience = patience
        self._sign = 1.0 if higher_is_better else -1.0
        self._best = -math.inf
        self._best_epoch = 0
        self._weights = _copy(model)

    def update(self, epoch: int, metric: float) -> bool:
        """Takes an epoch's metric; True, and the weights are kept, if it is the best."""
        if not self._sign * metric > self._best:
            return False
        self._best, self._best_epoch = self._sign * metric, epoch
        self._weights = _copy(self._model)
        return True

    def should_stop(self, epoch: int) -> bool:
        """Whether patience has run out."""
        return epoch - self._best_epoch >= self._patience

    def restore(self) -> int:
        """Gives the model its best weights back; returns their epoch."""
        self._model.load_state_dict(self._weights)
        return self._best_epoch

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"best": self._best, "best_epoch": self._best_epoch, "weights": self._weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from another's :meth:`state_dict`."""
        self._best, self._best_epoch = state["best"], state["best_epoch"]
        self._weights = dict(state["weights"])


def _copy(model: nn.Module) -> dict[str, object]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
