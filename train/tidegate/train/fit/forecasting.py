"""Training a forecaster: truncated back-propagation through time with carried state.

Dimensions: B lanes, T steps of a segment.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from tidegate.train.data.lanes import Lanes
from tidegate.train.data.series import SeriesSplit
from tidegate.train.evaluate.backtest import backtest
from tidegate.train.forecaster import Forecaster
from tidegate.train.losses import pinball_loss

States = tuple[Tensor, ...]


@dataclass(frozen=True)
class ForecastingTask:
    """A forecaster and its series, for :func:`tidegate.train.fit.fit`.

    Args:
        model: the forecaster.
        splits: the series; only their training parts reach a gradient.
        lanes: rows of a batch.
        bptt: steps that a gradient goes back.
        seed: of the segments' cuts.
        warmup: rows read before the validation part; None: all of them.
    """

    model: Forecaster
    splits: Sequence[SeriesSplit]
    lanes: int
    bptt: int
    seed: int = 0
    warmup: int | None = None
    monitor: ClassVar[str] = "validation_loss"
    higher_is_better: ClassVar[bool] = False

    def losses(self, epoch: int) -> Iterator[Tensor]:
        """Yields the loss of each segment; the state goes on, the gradient does not."""
        model, train = self.model, [split.train for split in self.splits]
        targets = train[0].columns(model.format.targets)
        lanes = Lanes(train, self.lanes, self.bptt, model.horizon, targets)
        levels = torch.tensor(model.quantile_levels)
        state: States | None = None
        for segment in lanes.segments(np.random.default_rng((self.seed, epoch))):
            initial = model.initial_state(len(segment.x))
            state = reset(initial if state is None else state, initial, segment.reset)
            quantiles, state = model(segment.x, segment.lengths, state)
            yield pinball_loss(quantiles, segment.y, levels, model.target_scale)
            # The value goes on, the gradient ends here: this is the truncation.
            state = tuple(tensor.detach() for tensor in state)

    def validate(self) -> dict[str, float]:
        """The pinball loss of the validation part, origin after origin."""
        tests = [backtest(self.model, split, "validation", self.warmup) for split in self.splits]
        losses = [test.loss(self.model.target_scale.numpy()) for test in tests]
        return {self.monitor: float(np.mean(losses))}


def reset(state: States, initial: States, rows: Tensor) -> States:
    """The state with some rows of the batch back at their beginning.

    Args:
        state: tensors [layers, B, width].
        initial: likewise.
        rows: bool [B]; True: take the initial state.
    """
    return tuple(
        torch.where(rows[:, None], first, now) for now, first in zip(state, initial, strict=True)
    )
