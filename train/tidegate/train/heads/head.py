"""What every head of a forecaster is: hidden states in, distributions out.

Dimensions: B batch, T time, H hidden, K targets, Q quantiles.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, TypeAlias

from torch import Tensor, nn

from tidegate.train.arguments import check_positive
from tidegate.train.losses import LossName

# By name, in raw units: [B, T, horizon, K], quantiles [B, T, horizon, K, Q].
Distribution: TypeAlias = dict[str, Tensor]


class Shape(NamedTuple):
    """What is forecast at each step.

    Attributes:
        horizon: steps ahead.
        targets: K.
        quantile_levels: [Q], ascending, within (0, 1).
    """

    horizon: int
    targets: int
    quantile_levels: tuple[float, ...]


class Frame(NamedTuple):
    """Where a forecast stands in raw units.

    Attributes:
        last_value: the targets' last observations, [B, T, K].
        scale: standard deviation of what the network reads of each target, [K].
        level: mean of each target in the training part, [K].
    """

    last_value: Tensor
    scale: Tensor
    level: Tensor


class Head(nn.Module, ABC):
    """A linear map of the hidden state, and the distribution that its columns mean.

    Args:
        input_size: H.
        shape: what is forecast.
        columns: of the linear map for each step ahead and target.
        shared: whether one map serves all targets, each with a hidden state of its
            own.

    Attributes:
        validated_by: the loss of the quantiles that tells the best epoch.

    Raises:
        ValueError: the shape is out of range.
    """

    name: ClassVar[str]
    validated_by: LossName = "pinball"

    def __init__(self, input_size: int, shape: Shape, columns: int, *, shared: bool) -> None:
        super().__init__()
        check_positive("horizon", shape.horizon)
        check_levels(shape.quantile_levels)
        self.shape = shape
        self.columns = columns
        self.shared = shared
        maps = 1 if shared else shape.targets
        self.linear = nn.Linear(input_size, shape.horizon * maps * columns)

    @abstractmethod
    def forward(self, hidden: Tensor, frame: Frame) -> Distribution:
        """The distribution after each step.

        Args:
            hidden: [B, T, H], of a shared map [B, T, K, H].
            frame: of the same steps.
        """

    @abstractmethod
    def loss(self, distribution: Distribution, y: Tensor, scale: Tensor) -> Tensor:
        """What training minimizes: a mean over the values that are known.

        Args:
            distribution: of :meth:`forward`.
            y: [B, T, horizon, K]; NaN takes no part.
            scale: [K], so that every target counts alike.
        """

    @abstractmethod
    def quantiles(self, distribution: Distribution) -> Tensor:
        """The quantiles of a distribution, ascending, [B, T, horizon, K, Q]."""

    def _raw(self, hidden: Tensor) -> Tensor:
        """The linear map, [B, T, horizon, K, columns]."""
        raw: Tensor = self.linear(hidden)
        if self.shared:
            by_target = raw.view(*raw.shape[:3], self.shape.horizon, self.columns)
            return by_target.transpose(2, 3)
        return raw.view(*raw.shape[:2], self.shape.horizon, self.shape.targets, self.columns)


def check_levels(levels: Sequence[float]) -> None:
    """Checks that quantile levels ascend within (0, 1).

    Raises:
        ValueError: they do not.
    """
    ascending = all(low < high for low, high in itertools.pairwise(levels))
    if not levels or not ascending or not 0 < levels[0] <= levels[-1] < 1:
        raise ValueError(
            f"quantile_levels={list(levels)} is not usable; give ascending levels within (0, 1)"
        )
