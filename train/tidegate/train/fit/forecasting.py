"""Training a forecaster: truncated back-propagation through time with carried state.

Dimensions: B lanes, T steps of a segment.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from tidegate.train.data.lanes import Lanes
from tidegate.train.data.series import SeriesSplit
from tidegate.train.data.windows import Windows
from tidegate.train.evaluate.backtest import backtests
from tidegate.train.fit.task import Validated
from tidegate.train.forecaster import Forecaster

States = tuple[Tensor, ...]

# More than an epoch has, so that every stretch of every epoch has a number of its own.
_STRETCHES = 1 << 32


@dataclass
class ForecastingTask:
    """A forecaster and its series, for :func:`tidegate.train.fit.fit`.

    Args:
        model: the forecaster.
        splits: the series; only their training parts reach a gradient.
        lanes: rows of a batch.
        bptt: steps that a gradient goes back.
        seed: of the segments' cuts.
        warmup: rows read before the validation part; None: all of them.
        persistent_masks: whether a lane keeps its masks per sequence over all segments
            of a stretch, as it keeps its state; else each segment has new ones.
        lookback: steps of a window, to learn from shuffled windows, ``lanes`` of them
            in a batch; None: lanes carry their state.
        stride: rows from one window to the next.
    """

    model: Forecaster
    splits: Sequence[SeriesSplit]
    lanes: int
    bptt: int
    seed: int = 0
    warmup: int | None = None
    persistent_masks: bool = False
    lookback: int | None = None
    stride: int = 1
    monitor: ClassVar[str] = "validation_loss"
    higher_is_better: ClassVar[bool] = False
    _carried: States | None = field(default=None, init=False)

    def losses(self, epoch: int, start: int = 0) -> Iterator[Tensor]:
        """Yields the loss of each segment; the state goes on, the gradient does not.

        Args:
            epoch: from 1.
            start: segments that are done; their last state was loaded.
        """
        model, sampler = self.model, self._sampler()
        if not start:
            self._carried = None
        segments = sampler.segments(np.random.default_rng((self.seed, epoch)))
        device = model.target_scale.device
        for on_cpu in islice(segments, start, None):
            segment = on_cpu.to(device)
            initial = model.initial_state(len(segment.x))
            # Windows have no state of an earlier one to go on from.
            carried = self._carried if self.lookback is None else None
            state = reset(carried or initial, initial, segment.reset)
            numbers = epoch * _STRETCHES + segment.stretch if self.persistent_masks else None
            forecast, state = model.distribution(
                segment.x, segment.lengths, state, sequences=numbers
            )
            # The value goes on, the gradient ends here: this is the truncation.
            self._carried = tuple(tensor.detach() for tensor in state)
            yield model.loss(forecast, segment.y)

    def _sampler(self) -> Lanes | Windows:
        model, train = self.model, [split.train for split in self.splits]
        targets = train[0].columns(model.format.targets)
        if self.lookback is None:
            return Lanes(train, self.lanes, self.bptt, model.horizon, targets)
        return Windows(train, self.lanes, self.lookback, model.horizon, targets, self.stride)

    def validate(self) -> Validated:
        """The head's loss of the validation part, origin after origin, and the forecasts."""
        tests = backtests(self.model, self.splits, "validation", self.warmup)
        scale, name = self.model.target_scale.cpu().numpy(), self.model.head.validated_by
        losses = [test.loss(scale, name) for test in tests]
        return Validated({self.monitor: float(np.mean(losses))}, tests)

    def state_dict(self) -> dict[str, Any]:
        """The state that the lanes carry."""
        return {"carried": None if self._carried is None else list(self._carried)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the state that another task's lanes carry."""
        carried, device = state["carried"], self.model.target_scale.device
        self._carried = None if carried is None else tuple(one.to(device) for one in carried)


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
