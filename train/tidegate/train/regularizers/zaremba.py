"""Dropout on the non-recurrent connections."""

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from tidegate.train.rates import Rate
from tidegate.train.regularizers.arguments import (
    Granularity,
    check_granularity,
    check_output_rate,
    top_output_rate,
)
from tidegate.train.regularizers.base import Regularizer, Site


@dataclass(frozen=True)
class Zaremba(Regularizer):
    """Dropout on the non-recurrent connections only.

    Masks the input of every layer and the output of the top one, L + 1 sites,
    and never h_{t-1}. PyTorch's own ``dropout=`` covers the L - 1 inner ones.

    Source: Zaremba, Sutskever and Vinyals 2014, arXiv 1409.2329.

    Args:
        p: probability to drop a unit of a layer's input.
        granularity: "step" as in the paper, or "sequence": one mask over time.
        output_p: the same for the top output; None: as the input of the last layer.

    Raises:
        ValueError: an argument is out of its range.
    """

    name: ClassVar[str] = "zaremba"
    p: Rate
    granularity: Granularity = "step"
    output_p: float | None = None

    def __post_init__(self) -> None:
        self._check_rates("p")
        check_granularity(self.granularity)
        check_output_rate(self.p, self.output_p)

    @property
    def output_rate(self) -> float:
        """The rate on the top output."""
        return top_output_rate(self.p, self.output_p)

    @property
    @override
    def per_sequence(self) -> bool:
        return self.granularity == "sequence"

    @property
    @override
    def sites(self) -> frozenset[Site]:
        return frozenset({Site.INPUT})

    @property
    @override
    def layered_rates(self) -> dict[str, Rate]:
        return {"p": self.p, "output_p": self.output_rate}

    @property
    @override
    def options(self) -> dict[str, str]:
        return {"granularity": self.granularity}
