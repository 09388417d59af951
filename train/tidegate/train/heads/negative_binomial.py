"""A negative binomial distribution of each value, for counts.

Dimensions: B batch, T time, K targets, Q quantiles, N largest count.
"""

from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import special
from torch import Tensor, nn
from torch.distributions import NegativeBinomial
from typing_extensions import override

from tidegate.train.arguments import check_positive
from tidegate.train.heads.head import Distribution, Frame, Head, Shape
from tidegate.train.heads.positive import squareplus
from tidegate.train.losses import mean_of_known

# Of a target's mean: keeps the likelihood finite where nothing is counted.
MIN_MEAN = 1e-4
_FIRST_DISPERSION = 0.5


def check_counts(name: str, values: NDArray[np.floating]) -> None:
    """Checks that the values of a target can be counts.

    Raises:
        ValueError: one is negative or no whole number, or all are 0; NaN is no value.
    """
    values = values[~np.isnan(values)]
    wrong = (values < 0) | (values != np.round(values))
    if wrong.any():
        raise ValueError(
            f"target {name!r} has the value {values[wrong][0]:g}; a negative binomial head "
            "forecasts counts, whole numbers from 0 up: take another head"
        )
    if not values.any():
        raise ValueError(f"target {name!r} is 0 throughout the training part; leave it out")


class NegativeBinomialHead(Head):
    """The mean follows from the hidden state, the dispersion is a weight of each target.

    The variance is mean + dispersion mean^2. Since the dispersion does not change
    after training, each quantile is a function of the mean alone: it rises by
    one wherever the mean passes a threshold. The thresholds are exact, and a
    graph finds its place among them by bisection.

    Source: Salinas et al. 2020, arXiv 1704.04110, equation 5; the distribution
    function is an incomplete beta function (Johnson, Kemp and Kotz 2005, 5.6).

    Args:
        input_size: H.
        shape: what is forecast.
        largest_count: no quantile is above it; rounded up to 2^n - 1.
        shared: as for :class:`Head`.
    """

    name: ClassVar[str] = "negative_binomial"

    def __init__(
        self, input_size: int, shape: Shape, largest_count: int = 1023, *, shared: bool = False
    ) -> None:
        super().__init__(input_size, shape, columns=1, shared=shared)
        check_positive("largest_count", largest_count)
        self.largest_count = 2 ** largest_count.bit_length() - 1
        first = torch.full((shape.targets,), _FIRST_DISPERSION)
        self.raw_dispersion = nn.Parameter(torch.log(torch.expm1(first)))

    @property
    def dispersion(self) -> Tensor:
        """Positive, [K]."""
        return F.softplus(self.raw_dispersion) + torch.finfo(torch.float32).eps

    @torch.no_grad()
    def set_dispersion(self, dispersion: Tensor) -> None:
        """Puts dispersions, [K], in the weights' place."""
        self.raw_dispersion.copy_(torch.log(torch.expm1(dispersion.double())))

    def thresholds(self) -> NDArray[np.float32]:
        """The largest mean at which a quantile is still at most k, for k = 0 to N - 1, [K, Q, N].

        P(X <= k) = I_p(r, k + 1) with r = 1 / dispersion and p = r / (r + mean).
        """
        dispersion = self.dispersion.detach().cpu().double().numpy()[:, None, None]
        levels = np.asarray(self.shape.quantile_levels)[None, :, None]
        counts = np.arange(self.largest_count)
        p = special.betaincinv(1 / dispersion, counts + 1.0, levels)
        means: NDArray[np.float32] = ((1 / p - 1) / dispersion).astype(np.float32)
        return means

    @override
    def forward(self, hidden: Tensor, frame: Frame) -> Distribution:
        mean = squareplus(self._raw(hidden)[..., 0]) + MIN_MEAN
        return {"mean": mean * frame.level}

    @override
    def loss(self, distribution: Distribution, y: Tensor, scale: Tensor) -> Tensor:
        known = ~y.isnan()
        mean = distribution["mean"]
        counts = torch.where(known, y, 0.0)
        logits = torch.log(mean * self.dispersion)
        binomial = NegativeBinomial(1 / self.dispersion, logits=logits, validate_args=False)
        return mean_of_known(-binomial.log_prob(counts), known)  # type: ignore[no-untyped-call] # torch's

    @override
    def quantiles(self, distribution: Distribution) -> Tensor:
        mean = distribution["mean"]
        tables = torch.from_numpy(self.thresholds()).to(mean)
        found = [
            torch.stack([torch.searchsorted(one, mean[..., k].contiguous()) for one in table], -1)
            for k, table in enumerate(tables)
        ]
        return torch.stack(found, dim=-2).to(mean)
