"""Dropout of word types."""

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from tidegate.train.rates import Rate
from tidegate.train.regularizers.base import Regularizer, Site


@dataclass(frozen=True)
class EmbeddingDropout(Regularizer):
    """Drops word types: every occurrence of a word in a sequence, or none.

    Each row of a batch drops its own words, for the whole sequence. The method
    needs words; a network that reads numbers has none.

    Source: Gal and Ghahramani 2016, arXiv 1512.05287, section 4.2.

    Args:
        p: probability to drop a word type.

    Raises:
        ValueError: p is out of its range.
    """

    name: ClassVar[str] = "embedding_dropout"
    p: float

    def __post_init__(self) -> None:
        self._check_rates("p")
        if "p" not in self.rates:
            raise ValueError(f"p={self.p!r}: words are below every layer; give one number")

    @property
    @override
    def sites(self) -> frozenset[Site]:
        return frozenset({Site.EMBEDDING})

    @property
    @override
    def layered_rates(self) -> dict[str, Rate]:
        return {"p": self.p}
