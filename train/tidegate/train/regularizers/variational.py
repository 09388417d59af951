"""One mask over time on what enters the gates."""

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from tidegate.train.rates import Rate, is_zero
from tidegate.train.regularizers.arguments import check_output_rate, top_output_rate
from tidegate.train.regularizers.base import Regularizer, Site


@dataclass(frozen=True)
class Variational(Regularizer):
    """One mask over time on x_t and on h_{t-1}, where they enter the gates.

    Source: Gal and Ghahramani 2016, arXiv 1512.05287.

    Args:
        p: probability to drop a unit of a layer's input.
        hidden_p: the same for h_{t-1}; None: as ``p``; 0: inputs only.
        tied: one mask for all gates of a cell, else one for each gate.
        output_p: the same for the top output; None: as the input of the last layer.

    Raises:
        ValueError: an argument is out of its range.
    """

    name: ClassVar[str] = "variational"
    p: Rate
    hidden_p: Rate | None = None
    tied: bool = True
    output_p: float | None = None

    def __post_init__(self) -> None:
        self._check_rates("p", *(["hidden_p"] if self.hidden_p is not None else []))
        check_output_rate(self.p, self.output_p)

    @property
    def recurrent_p(self) -> Rate:
        """The rate on h_{t-1}."""
        return self.p if self.hidden_p is None else self.hidden_p

    @property
    def output_rate(self) -> float:
        """The rate on the top output."""
        return top_output_rate(self.p, self.output_p)

    @property
    @override
    def sites(self) -> frozenset[Site]:
        used = set[Site]()
        if not is_zero(self.p) or self.output_rate > 0:
            used.add(Site.INPUT)
        if not is_zero(self.recurrent_p):
            used.add(Site.HIDDEN)
        return frozenset(used or {Site.INPUT})

    @property
    @override
    def layered_rates(self) -> dict[str, Rate]:
        return {"p": self.p, "hidden_p": self.recurrent_p, "output_p": self.output_rate}

    @property
    @override
    def options(self) -> dict[str, str]:
        return {"tied": str(self.tied).lower()}
