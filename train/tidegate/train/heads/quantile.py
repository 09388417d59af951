"""Quantiles that cannot cross, trained by the pinball loss; or the mean, by squared errors.

Dimensions: B batch, T time, K targets, Q quantiles.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, TypeAlias, get_args

import torch
from torch import Tensor
from typing_extensions import override

from tidegate.train.arguments import check_choice
from tidegate.train.heads.head import Distribution, Frame, Head, Shape
from tidegate.train.heads.positive import squareplus
from tidegate.train.losses import LossName, pinball_loss, squared_loss

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
        loss: "pinball"; or "squared", of the level 0.5 alone, which then stands for the
            mean: the median too where errors are symmetric.
        shared: as for :class:`Head`.

    Raises:
        ValueError: an argument is unknown, or other levels are asked of squared errors.
    """

    name: ClassVar[str] = "quantile"
    spread: Tensor
    levels: Tensor

    def __init__(
        self,
        input_size: int,
        shape: Shape,
        steps: Steps = "absolute",
        loss: LossName = "pinball",
        *,
        shared: bool = False,
    ) -> None:
        super().__init__(input_size, shape, columns=len(shape.quantile_levels), shared=shared)
        check_choice("steps", steps, STEPS)
        check_choice("loss", loss, get_args(LossName))
        if loss == "squared" and tuple(shape.quantile_levels) != (0.5,):
            raise ValueError(
                f"loss='squared' with quantile_levels={list(shape.quantile_levels)}: squared "
                "errors teach the mean and no quantile; give quantile_levels=[0.5], or "
                "loss='pinball'"
            )
        self.steps = steps
        self.validated_by = loss
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
        if self.validated_by == "squared":
            return squared_loss(distribution["quantiles"].squeeze(-1), y, scale)
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
