"""What every method declares: where its masks are, how often, and how inference follows."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from tidegate.train.rates import Rate, as_rate, named


class Site(Enum):
    """Where a mask multiplies."""

    INPUT = "input"
    HIDDEN = "hidden"
    WEIGHT = "weight"
    CANDIDATE = "candidate"
    MEMORY = "memory"
    EMBEDDING = "embedding"


class Contract(Enum):
    """How inference follows from training."""

    IDENTITY = "identity"
    FOLDED = "folded"
    EXPECTATION = "expectation"


@dataclass(frozen=True)
class Regularizer(ABC):
    """Base of all methods."""

    name: ClassVar[str]
    contract: ClassVar[Contract] = Contract.IDENTITY

    @property
    @abstractmethod
    def sites(self) -> frozenset[Site]:
        """The sites that the method's masks occupy."""

    @property
    @abstractmethod
    def layered_rates(self) -> dict[str, Rate]:
        """Its probabilities by argument name, as they are in force."""

    @property
    def rates(self) -> dict[str, float]:
        """The same as numbers, by argument name; a layer's own end in ``_l0``, ``_l0_reverse``."""
        return {
            key: number
            for name, rate in self.layered_rates.items()
            for key, number in named(name, rate).items()
        }

    @property
    def per_sequence(self) -> bool:
        """Whether no mask of it changes over time within a sequence."""
        return True

    def _check_rates(self, *names: str) -> None:
        for name in names:
            object.__setattr__(self, name, as_rate(name, getattr(self, name)))

    @property
    def options(self) -> dict[str, str]:
        """Its other settings by argument name."""
        return {}
