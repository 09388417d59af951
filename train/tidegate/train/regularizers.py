"""The six recurrent dropout methods, as declarations.

Every method is a mask with a site and a granularity; nothing else differs. The
classes here say which; :mod:`tidegate.train.masks` draws the masks and
:mod:`tidegate.train.cells` applies them. ``p`` is always the probability to
DROP; in :class:`Zoneout` the rates are the probabilities to KEEP THE OLD value.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Literal, TypeVar

from typing_extensions import override

Granularity = Literal["step", "sequence"]


class Site(Enum):
    """Where a mask multiplies."""

    INPUT = "input"
    HIDDEN = "hidden"
    WEIGHT = "weight"
    CANDIDATE = "candidate"
    MEMORY = "memory"


class Contract(Enum):
    """How inference follows from training."""

    IDENTITY = "identity"
    FOLDED = "folded"
    EXPECTATION = "expectation"


@dataclass(frozen=True)
class Regularizer(ABC):
    """Base of the six methods."""

    name: ClassVar[str]
    contract: ClassVar[Contract] = Contract.IDENTITY

    @property
    @abstractmethod
    def sites(self) -> frozenset[Site]:
        """The sites that the method's masks occupy."""

    @property
    @abstractmethod
    def rates(self) -> dict[str, float]:
        """Its probabilities by argument name."""

    @property
    def options(self) -> dict[str, str]:
        """Its other settings by argument name."""
        return {}


@dataclass(frozen=True)
class Zaremba(Regularizer):
    """Dropout on the non-recurrent connections only.

    Masks the input of every layer and the output of the top one, L + 1 sites,
    and never h_{t-1}. PyTorch's own ``dropout=`` covers the L - 1 inner ones.

    Source: Zaremba, Sutskever and Vinyals 2014, arXiv 1409.2329.

    Args:
        p: probability to drop, in [0, 1].
        granularity: "step" as in the paper, or "sequence": one mask over time.

    Raises:
        ValueError: an argument is out of its range.
    """

    name: ClassVar[str] = "zaremba"
    p: float
    granularity: Granularity = "step"

    def __post_init__(self) -> None:
        _check_rate("p", self.p)
        _check_granularity(self.granularity)

    @property
    @override
    def sites(self) -> frozenset[Site]:
        return frozenset({Site.INPUT})

    @property
    @override
    def rates(self) -> dict[str, float]:
        return {"p": self.p}

    @property
    @override
    def options(self) -> dict[str, str]:
        return {"granularity": self.granularity}


@dataclass(frozen=True)
class RNNDrop(Regularizer):
    """Drops units of the memory for a whole sequence.

    LSTM: c_t = m * (f * c_{t-1} + i * g), h_t = o * tanh(c_t) / (1 - p), with m
    binary. GRU and RNN: h is carried as it is and exposed as h * m / (1 - p).
    The carried memory is never rescaled, so inference is the plain network.

    There is no granularity: a mask drawn anew at each step would wipe the
    memory out, since what is zeroed once is gone.

    Source: Moon, Choi, Lee and Song, "RNNDrop", ASRU 2015.

    Args:
        p: probability to drop, in [0, 1].
        granularity: only "sequence".

    Raises:
        ValueError: p is out of its range, or the granularity is "step".
    """

    name: ClassVar[str] = "rnndrop"
    p: float
    granularity: Granularity = "sequence"

    def __post_init__(self) -> None:
        _check_rate("p", self.p)
        _check_granularity(self.granularity)
        if self.granularity == "step":
            raise ValueError(
                "granularity='step' is refused for RNNDrop: a memory must not be dropped at "
                "random at each step, since what is zeroed once is gone (after t steps a keep "
                "rate k leaves k**t of it). Use granularity='sequence', or Semeniuta to drop "
                "what enters the memory at each step."
            )

    @property
    @override
    def sites(self) -> frozenset[Site]:
        return frozenset({Site.MEMORY})

    @property
    @override
    def rates(self) -> dict[str, float]:
        return {"p": self.p}


@dataclass(frozen=True)
class Variational(Regularizer):
    """One mask over time on x_t and on h_{t-1}, where they enter the gates.

    Source: Gal and Ghahramani 2016, arXiv 1512.05287.

    Args:
        p: probability to drop a unit of an input and of the top output.
        hidden_p: the same for h_{t-1}; None: as ``p``; 0: inputs only.
        tied: one mask for all gates of a cell, else one for each gate.

    Raises:
        ValueError: an argument is out of its range.
    """

    name: ClassVar[str] = "variational"
    p: float
    hidden_p: float | None = None
    tied: bool = True

    def __post_init__(self) -> None:
        _check_rate("p", self.p)
        if self.hidden_p is not None:
            _check_rate("hidden_p", self.hidden_p)

    @property
    def recurrent_p(self) -> float:
        """The rate on h_{t-1}."""
        return self.p if self.hidden_p is None else self.hidden_p

    @property
    @override
    def sites(self) -> frozenset[Site]:
        used = {Site.INPUT: self.p, Site.HIDDEN: self.recurrent_p}
        return frozenset(site for site, rate in used.items() if rate > 0) or frozenset({Site.INPUT})

    @property
    @override
    def rates(self) -> dict[str, float]:
        return {"p": self.p, "hidden_p": self.recurrent_p}

    @property
    @override
    def options(self) -> dict[str, str]:
        return {"tied": str(self.tied).lower()}


@dataclass(frozen=True)
class WeightDrop(Regularizer):
    """DropConnect on W_hh: one mask for each forward pass, shared by the batch.

    Both directions are dropped, the biases and the stored weights never.

    Source: Merity, Keskar and Socher 2017, arXiv 1708.02182.

    Args:
        p: probability to drop a weight, in [0, 1].

    Raises:
        ValueError: p is out of its range.
    """

    name: ClassVar[str] = "weight_drop"
    p: float

    def __post_init__(self) -> None:
        _check_rate("p", self.p)

    @property
    @override
    def sites(self) -> frozenset[Site]:
        return frozenset({Site.WEIGHT})

    @property
    @override
    def rates(self) -> dict[str, float]:
        return {"p": self.p}


@dataclass(frozen=True)
class Semeniuta(Regularizer):
    """Recurrent dropout without memory loss: on the candidate, after its tanh.

    The mask decides what enters the memory and never multiplies the memory
    itself, so it may be drawn anew at each step.

    Source: Semeniuta, Severyn and Barth 2016, arXiv 1603.05118.

    Args:
        p: probability to drop, in [0, 1].
        granularity: "step" or "sequence".

    Raises:
        ValueError: an argument is out of its range.
    """

    name: ClassVar[str] = "semeniuta"
    p: float
    granularity: Granularity = "step"

    def __post_init__(self) -> None:
        _check_rate("p", self.p)
        _check_granularity(self.granularity)

    @property
    @override
    def sites(self) -> frozenset[Site]:
        return frozenset({Site.CANDIDATE})

    @property
    @override
    def rates(self) -> dict[str, float]:
        return {"p": self.p}

    @property
    @override
    def options(self) -> dict[str, str]:
        return {"granularity": self.granularity}


@dataclass(frozen=True)
class Zoneout(Regularizer):
    """Skips the update of random units: they keep their previous value.

    Inference is the expectation, c_t = z * c_{t-1} + (1 - z) * c~_t, likewise
    for h, which the plain ONNX operators cannot express.

    Source: Krueger et al. 2016, arXiv 1606.01305.

    Args:
        cell: probability to keep c_{t-1}; read by the LSTM only, which alone has c.
        hidden: probability to keep h_{t-1}.

    Raises:
        ValueError: a rate is out of its range.
    """

    name: ClassVar[str] = "zoneout"
    contract: ClassVar[Contract] = Contract.EXPECTATION
    cell: float = 0.5
    hidden: float = 0.05

    def __post_init__(self) -> None:
        _check_rate("cell", self.cell)
        _check_rate("hidden", self.hidden)

    @property
    @override
    def sites(self) -> frozenset[Site]:
        return frozenset({Site.MEMORY})

    @property
    @override
    def rates(self) -> dict[str, float]:
        return {"cell": self.cell, "hidden": self.hidden}


REGULARIZERS: dict[str, type[Regularizer]] = {
    method.name: method
    for method in (Zaremba, RNNDrop, Variational, WeightDrop, Semeniuta, Zoneout)
}

_Method = TypeVar("_Method", bound=Regularizer)


def find(regularizers: Sequence[Regularizer], method: type[_Method]) -> _Method | None:
    """The one instance of a method among the regularizers, if it is there."""
    return next((one for one in regularizers if isinstance(one, method)), None)


def check_combination(regularizers: Sequence[Regularizer], cell: str) -> None:
    """Checks that methods have a meaning together, and with the cell.

    Raises:
        ValueError: two methods mask the same site, or the cell has no such site.
    """
    taken: dict[Site, Regularizer] = {}
    for method in regularizers:
        for site in method.sites:
            if site in taken:
                raise ValueError(
                    f"regularizers={[one.name for one in regularizers]}: {taken[site].name} and "
                    f"{method.name} both mask the {site.value}; keep one of them"
                    + (" or set hidden_p=0 or p=0" if method.name == "variational" else "")
                )
            taken[site] = method
    if cell == "rnn" and Site.CANDIDATE in taken:
        raise ValueError(
            "regularizers=['semeniuta'] with cell='rnn': a simple RNN has no candidate apart "
            "from its memory, so a mask on it would drop the memory; use cell='gru' or 'lstm'"
        )


def _check_rate(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}={value!r} is not a probability; give a value from 0 to 1")


def _check_granularity(value: str) -> None:
    if value not in ("step", "sequence"):
        raise ValueError(f"granularity={value!r} is unknown; use 'step' or 'sequence'")
