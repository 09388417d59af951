"""A Student-t distribution of each value, for series with heavy tails.

Dimensions: B batch, T time, K targets, Q quantiles.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn
from torch.distributions import StudentT
from typing_extensions import override

from tidegate.train.heads.head import Distribution, Frame, Head, Shape
from tidegate.train.heads.positive import squareplus
from tidegate.train.losses import mean_of_known

# Of a target's own scale: keeps the likelihood finite where values repeat.
MIN_SCALE = 1e-3
# Below two degrees of freedom the variance is infinite.
_MIN_DF = 2.0
# With the minimum this begins near 7.
_FIRST_DF = 5.0


class StudentTHead(Head):
    """Location and scale follow from the hidden state, the degrees of freedom are weights.

    There is one number of degrees of freedom for each step ahead and target. Since
    it does not change after training, a quantile is loc + scale * t(q), with a
    constant t(q): exact, and within a graph, which has no inverse of the
    distribution function.

    Source: Salinas et al. 2020, arXiv 1704.04110 (likelihoods of a recurrent
    network), with the degrees of freedom of a regression with Student-t errors
    (Lange et al. 1989).

    Args:
        input_size: H.
        shape: what is forecast.
        shared: as for :class:`Head`.
    """

    name: ClassVar[str] = "student_t"

    def __init__(self, input_size: int, shape: Shape, *, shared: bool = False) -> None:
        super().__init__(input_size, shape, columns=2, shared=shared)
        first = torch.full((shape.horizon, shape.targets), _FIRST_DF)
        self.raw_df = nn.Parameter(torch.log(torch.expm1(first)))

    @property
    def df(self) -> Tensor:
        """Degrees of freedom, above 2, [horizon, K]."""
        return _MIN_DF + F.softplus(self.raw_df)

    @torch.no_grad()
    def set_df(self, df: Tensor) -> None:
        """Puts degrees of freedom, [horizon, K], in the weights' place."""
        self.raw_df.copy_(torch.log(torch.expm1((df - _MIN_DF).double())))

    def standard_quantiles(self) -> Tensor:
        """Quantiles of the distribution with loc 0 and scale 1, [horizon, K, Q]."""
        df = self.df.detach().cpu().double().numpy()
        table = stats.t.ppf(self.shape.quantile_levels, df[..., None])
        return torch.from_numpy(table).to(self.raw_df)

    @override
    def forward(self, hidden: Tensor, frame: Frame) -> Distribution:
        loc, scale = self._raw(hidden).unbind(dim=-1)
        return {
            "loc": frame.last_value[:, :, None] + loc * frame.scale,
            "scale": (squareplus(scale) + MIN_SCALE) * frame.scale,
        }

    @override
    def loss(self, distribution: Distribution, y: Tensor, scale: Tensor) -> Tensor:
        known = ~y.isnan()
        # In units of the scale: not a number where unknown would reach the gradient.
        y = torch.where(known, y, distribution["loc"].detach())
        student = StudentT(self.df, distribution["loc"], distribution["scale"], validate_args=False)
        log_density = student.log_prob(y) + scale.log()  # type: ignore[no-untyped-call] # torch's
        return mean_of_known(-log_density, known)

    @override
    def quantiles(self, distribution: Distribution) -> Tensor:
        away = distribution["scale"][..., None] * self.standard_quantiles()
        return distribution["loc"][..., None] + away
