"""DropConnect on the recurrent weights."""

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from tidegate.train.rates import Rate
from tidegate.train.regularizers.base import Regularizer, Site


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
