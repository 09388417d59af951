"""Units that keep their previous value at random."""

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from tidegate.train.rates import Rate
from tidegate.train.regularizers.base import Contract, Regularizer, Site


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
