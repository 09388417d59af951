"""The six recurrent dropout methods and dropout of words, as declarations.

Every method is a mask with a site and a granularity; nothing else differs. The
classes here say which; :mod:`tidegate.train.masks` draws the masks and
:mod:`tidegate.train.cells` applies them. ``p`` is always the probability to
DROP; in :class:`Zoneout` the rates are the probabilities to KEEP THE OLD value.

A rate is one number for the whole network, or a tuple with an entry for each
layer, a number or a pair (forward, reverse): ``p=(0.1, (0.2, 0.3))``.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Literal, TypeVar

from typing_extensions import override

from tidegate.train.rates import Rate, as_rate, is_zero, named, rate_at

Granularity = Literal["step", "sequence"]


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
        _check_granularity(self.granularity)
        _check_output_rate(self.p, self.output_p)

    @property
    def output_rate(self) -> float:
        """The rate on the top output."""
        return _output_rate(self.p, self.output_p)

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
        p: probability to drop.
        granularity: only "sequence".

    Raises:
        ValueError: p is out of its range, or the granularity is "step".
    """

    name: ClassVar[str] = "rnndrop"
    p: Rate
    granularity: Granularity = "sequence"

    def __post_init__(self) -> None:
        self._check_rates("p")
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
    def layered_rates(self) -> dict[str, Rate]:
        return {"p": self.p}


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
        _check_output_rate(self.p, self.output_p)

    @property
    def recurrent_p(self) -> Rate:
        """The rate on h_{t-1}."""
        return self.p if self.hidden_p is None else self.hidden_p

    @property
    def output_rate(self) -> float:
        """The rate on the top output."""
        return _output_rate(self.p, self.output_p)

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


@dataclass(frozen=True)
class WeightDrop(Regularizer):
    """DropConnect on W_hh: a mask drawn anew for each forward pass.

    Both directions are dropped, the biases and the stored weights never.

    By default the whole batch shares one mask. With ``per_example`` each row has
    its own, as flipout does it, for one more product per step. Flipout needs a
    perturbation that is symmetric around zero, which DropConnect is at p = 0.5
    only. So the batch shares which weights are at stake, each with probability
    2 min(p, 1 - p); those are dropped or kept by a fair sign that flipout flips
    row by row, e_ij s_i r_j, and the others are kept in every row (or dropped,
    where p > 0.5). Each row by itself thus has exactly the independent masks of
    DropConnect, 0 with probability p and else 1 / (1 - p). Between two rows an
    element's masks are independent at p = 0.5; elsewhere their correlation is
    |1/2 - p| / max(p, 1 - p), where a shared mask has 1.

    Sources: Merity, Keskar and Socher 2017, arXiv 1708.02182; Wen, Vicol, Ba,
    Tran and Grosse 2018, arXiv 1803.04386.

    Args:
        p: probability to drop a weight.
        per_example: a mask for each row of the batch.

    Raises:
        ValueError: p is out of its range.
    """

    name: ClassVar[str] = "weight_drop"
    p: Rate
    per_example: bool = False

    def __post_init__(self) -> None:
        self._check_rates("p")

    @property
    @override
    def options(self) -> dict[str, str]:
        return {"per_example": str(self.per_example).lower()}

    @property
    @override
    def sites(self) -> frozenset[Site]:
        return frozenset({Site.WEIGHT})

    @property
    @override
    def layered_rates(self) -> dict[str, Rate]:
        return {"p": self.p}


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
        _check_granularity(self.granularity)

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


@dataclass(frozen=True)
class Zoneout(Regularizer):
    """Skips the update of random units: they keep their previous value.

    Inference is the expectation, c_t = z * c_{t-1} + (1 - z) * c~_t, likewise
    for h, which the plain ONNX operators cannot express.

    Source: Krueger et al. 2016, arXiv 1606.01305.

    Args:
        cell: probability to keep c_{t-1}; read by the LSTM only, which alone has c.
        hidden: probability to keep h_{t-1}.
        shared: one mask for c and h, so that a unit keeps both or neither;
            both rates must be equal.

    Raises:
        ValueError: a rate is out of its range, or one mask has two rates.
    """

    name: ClassVar[str] = "zoneout"
    contract: ClassVar[Contract] = Contract.EXPECTATION
    cell: Rate = 0.5
    hidden: Rate = 0.05
    shared: bool = False

    def __post_init__(self) -> None:
        self._check_rates("cell", "hidden")
        if self.shared and self.cell != self.hidden:
            raise ValueError(
                f"shared=True with cell={self.cell!r} and hidden={self.hidden!r}: one mask has one "
                "rate; give both the same, or set shared=False"
            )

    @property
    @override
    def per_sequence(self) -> bool:
        return False

    @property
    @override
    def options(self) -> dict[str, str]:
        return {"shared": str(self.shared).lower()}

    @property
    @override
    def sites(self) -> frozenset[Site]:
        return frozenset({Site.MEMORY})

    @property
    @override
    def layered_rates(self) -> dict[str, Rate]:
        return {"cell": self.cell, "hidden": self.hidden}


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


REGULARIZERS: dict[str, type[Regularizer]] = {
    method.name: method
    for method in (
        Zaremba,
        RNNDrop,
        Variational,
        WeightDrop,
        Semeniuta,
        Zoneout,
        EmbeddingDropout,
    )
}

_Method = TypeVar("_Method", bound=Regularizer)


def find(regularizers: Sequence[Regularizer], method: type[_Method]) -> _Method | None:
    """The one instance of a method among the regularizers, if it is there."""
    return next((one for one in regularizers if isinstance(one, method)), None)


def _output_rate(p: Rate, output_p: float | None) -> float:
    return rate_at(p, -1, 0) if output_p is None else output_p


def _check_output_rate(p: Rate, output_p: float | None) -> None:
    if output_p is not None:
        if isinstance(as_rate("output_p", output_p), tuple):
            raise ValueError(f"output_p={output_p!r}: there is one top output; give a number")
    elif isinstance(p, tuple) and isinstance(p[-1], tuple) and p[-1][0] != p[-1][1]:
        raise ValueError(
            f"p={p!r} has two rates for the last layer, so that the top output has none; give "
            "output_p"
        )


def _check_granularity(value: str) -> None:
    if value not in ("step", "sequence"):
        raise ValueError(f"granularity={value!r} is unknown; use 'step' or 'sequence'")
