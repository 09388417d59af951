"""The six recurrent dropout methods and dropout of words, as declarations.

Every method is a mask with a site and a granularity; nothing else differs. The
classes here say which; :mod:`tidegate.train.mask_sampler` draws the masks and
:mod:`tidegate.train.cells` applies them. ``p`` is always the probability to
DROP; in :class:`Zoneout` the rates are the probabilities to KEEP THE OLD value.

A rate is one number for the whole network, or a tuple with an entry for each
layer, a number or a pair (forward, reverse): ``p=(0.1, (0.2, 0.3))``.
"""

from collections.abc import Sequence
from typing import TypeVar

from tidegate.train.regularizers.arguments import Granularity
from tidegate.train.regularizers.base import Contract, Regularizer, Site
from tidegate.train.regularizers.embedding_dropout import EmbeddingDropout
from tidegate.train.regularizers.rnndrop import RNNDrop
from tidegate.train.regularizers.semeniuta import Semeniuta
from tidegate.train.regularizers.variational import Variational
from tidegate.train.regularizers.weight_drop import WeightDrop
from tidegate.train.regularizers.zaremba import Zaremba
from tidegate.train.regularizers.zoneout import Zoneout

__all__ = [
    "REGULARIZERS",
    "Contract",
    "EmbeddingDropout",
    "Granularity",
    "RNNDrop",
    "Regularizer",
    "Semeniuta",
    "Site",
    "Variational",
    "WeightDrop",
    "Zaremba",
    "Zoneout",
    "find",
]

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
