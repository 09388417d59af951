"""Dropout of what enters the memory."""

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from tidegate.train.rates import Rate
from tidegate.train.regularizers.arguments import Granularity, check_granularity
from tidegate.train.regularizers.base import Regularizer, Site


@dataclass(frozen=True)
class Semeniuta(Regularizer):
    """Recurrent dropout without memory loss: on the candidate, after its tanh.

    The mask decides what enters the memory and never multiplies the memory
    itself, so it may be drawn anew at each step.

    Source: Semeniuta, Severyn and Barth 2016, arXiv 1603.05118.

    Args:
        p: probability to drop.
        granularity: "step" or "sequence".

    Raises:
        ValueError: an argument is out of its range.
    """

    name: ClassVar[str] = "semeniuta"
    p: Rate
    granularity: Granularity = "step"

    def __post_init__(self) -> None:
        self._check_rates("p")
        check_granularity(self.granularity)

    @property
    @override
    def per_sequence(self) -> bool:
        return self.granularity == "sequence"

    @property
    @override
    def sites(self) -> frozenset[Site]:
        return frozenset({Site.CANDIDATE})

    @property
    @override
    def layered_rates(self) -> dict[str, Rate]:
        return {"p": self.p}

    @property
    @override
    def options(self) -> dict[str, str]:
        return {"granularity": self.granularity}
