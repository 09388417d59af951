"""Quantiles that cannot cross, trained by the pinball loss.

Dimensions: B batch, T time, K targets, Q quantiles.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor
from typing_extensions import override

from tidegate.train.arguments import check_choice
from tidegate.train.heads.head import Distribution, Frame, Head, Shape
from tidegate.train.heads.positive import squareplus
from tidegate.train.losses import pinball_loss

Steps: TypeAlias = Literal["absolute", "squareplus"]
STEPS: dict[str, Callable[[Tensor], Tensor]] = {"absolute": torch.abs, "squareplus": squareplus}


class QuantileHead(Head):
    """The quantile nearest the median, and steps away from it that are never negative.

    The middle is a linear function of the hidden state, as a change from the
    target's last value; the steps are functions of linear ones.

    Args:
        input_size: H.
        shape: what is forecast.
        steps: what makes a step of a number. "absolute" is its absolute value:
            one node in the graph, exact, and with a gradient everywhere.
            "squareplus" is smooth, and takes six nodes more.
        shared: as for :class:`Head`.
    """

    name: ClassVar[str] = "quantile"
    spread: Tensor
    levels: Tensor

    def __init__(
        self, input_size: int, shape: Shape, steps: Steps = "absolute", *, shared: bool = False
    ) -> None:
        super().__init__(input_size, shape, columns=len(shape.quantile_levels), shared=shared)
        check_choice("steps", steps, STEPS)
        self.steps = steps
        self.register_buffer("spread", spread(shape.quantile_levels), persistent=False)
        self.register_buffer("levels", torch.tensor(shape.quantile_levels), persistent=False)

    @override
    def forward(self, hidden: Tensor, frame: Frame) -> Distribution:
        raw = self._raw(hidden)
        parts = torch.cat([raw[..., :1], STEPS[self.steps](raw[..., 1:])], dim=-1)
        change = parts @ self.spread * frame.scale[:, None]
        return {"quantiles": frame.last_value[:, :, None, :, None] + change}

    @override
    def loss(self, distribution: Distribution, y: Tensor, scale: Tensor) -> Tensor:
        return pinball_loss(distribution["quantiles"], y, self.levels, scale)

    @override
    def quantiles(self, distribution: Distribution) -> Tensor:
        return distribution["quantiles"]


def spread(levels: Sequence[float]) -> Tensor:
    """[Q, Q]: from the middle and the steps away from it, on either side, to quantiles."""
    middle = min(range(len(levels)), key=lambda i: abs(levels[i] - 0.5))
    matrix = torch.zeros(len(levels), len(levels))
    matrix[0] = 1.0
    for quantile in range(middle + 1, len(levels)):
        matrix[1 + middle : 1 + quantile, quantile] = 1.0
    for quantile in range(middle):
        matrix[1 + quantile : 1 + middle, quantile] = -1.0
    return matrix
