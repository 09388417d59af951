"""Dropout of the memory, for a whole sequence."""

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from tidegate.train.rates import Rate
from tidegate.train.regularizers.arguments import Granularity, check_granularity
from tidegate.train.regularizers.base import Regularizer, Site


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
        check_granularity(self.granularity)
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
