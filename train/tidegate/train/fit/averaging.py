"""The mean of the weights over steps, once the loss no longer falls by itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class NonMonotonicAveraging:
    """Averages the weights from the step at which validation stops improving (NT-ASGD).

    After each epoch the metric is compared with those of all epochs before but the
    last ``interval``. From the first time that it is worse than their best, every
    step adds its weights to the mean.

    Source: Merity, Keskar and Socher 2017, arXiv 1708.02182, algorithm 1.

    Args:
        model: whose weights are averaged.
        interval: n, epochs whose metric a trigger disregards.
        higher_is_better: which way the metric improves.
    """

    def __init__(self, model: nn.Module, interval: int, *, higher_is_better: bool) -> None:
        self._model = model
        self._interval = interval
        self._sign = 1.0 if higher_is_better else -1.0
        self._metrics: list[float] = []
        self._mean: list[Tensor] = []
        self._count = 0

    @property
    def is_triggered(self) -> bool:
        """Whether averaging has begun."""
        return bool(self._mean)

    @torch.no_grad()
    def after_step(self) -> None:
        """Adds the weights as they are to the mean."""
        if not self._mean:
            return
        self._count += 1
        for mean, weight in zip(self._mean, self._model.parameters(), strict=True):
            mean += (weight - mean) / self._count

    def after_epoch(self, metric: float) -> None:
        """Takes an epoch's metric, and begins to average if it is worse than older ones."""
        value = self._sign * metric
        older = self._metrics[: -self._interval]
        if not self._mean and older and value < max(older):
            self._mean = [weight.detach().clone() for weight in self._model.parameters()]
            self._count = 1
        self._metrics.append(value)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the mean for its weights within the block."""
        if not self._mean:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"metrics": self._metrics, "mean": self._mean, "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from another's :meth:`state_dict`."""
        self._metrics = list(state["metrics"])
        devices = [weight.device for weight in self._model.parameters()]
        self._mean = [
            mean.to(device, copy=True) for mean, device in zip(state["mean"], devices, strict=False)
        ]
        self._count = state["count"]

    @torch.no_grad()
    def _swap(self) -> None:
        for mean, weight in zip(self._mean, self._model.parameters(), strict=True):
            kept = weight.detach().clone()
            weight.copy_(mean)
            mean.copy_(kept)
