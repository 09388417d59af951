"""The masks of a forward pass, as data; :mod:`tidegate.train.mask_sampler` draws them.

Dimensions: T time, B batch, I input size of the layer, H hidden, G gates,
D directions. An axis of length 1 is shared: T for a per-sequence mask, G for
one mask tied over the gates.

Index t of a mask belongs to the input x_t, in the reverse direction too.
"""

from typing import NamedTuple

from torch import Tensor

from tidegate.train.cells import Flip, StepMasks
from tidegate.train.rates import rate_at
from tidegate.train.regularizers import Zoneout


class LayerMasks(NamedTuple):
    """Factors of one layer and direction; None: there is no mask.

    Attributes:
        input: [T or 1, G or 1, B, I], on x_t where it enters the gates.
        hidden: [G or 1, B, H], on h_{t-1} where it enters the gates.
        weight: [G*H, H], on W_hh.
        candidate: [T or 1, B, H], on the candidate after its tanh.
        memory: [B, H] of 0 and 1, on the memory over the whole sequence.
        memory_scale: 1 / (1 - p) of ``memory``, on what is exposed of it.
        zone_cell: [T, B, H] of 0 and 1, or a rate: the share of the old c kept.
        zone_hidden: the same for h.
        flip: each row's own part of a mask on W_hh, beside ``weight``.
    """

    input: Tensor | None = None
    hidden: Tensor | None = None
    weight: Tensor | None = None
    candidate: Tensor | None = None
    memory: Tensor | None = None
    memory_scale: float = 1.0
    zone_cell: Tensor | float | None = None
    zone_hidden: Tensor | float | None = None
    flip: Flip | None = None

    @property
    def outside_the_recurrence(self) -> bool:
        """Whether every mask can be applied before the first step."""
        inside = (self.hidden, self.candidate, self.memory, self.zone_cell, self.zone_hidden)
        untied = self.input is not None and self.input.shape[1] > 1
        return not untied and self.flip is None and all(mask is None for mask in inside)

    @property
    def requires_grad(self) -> bool:
        """Whether any mask has a gradient, which only the readable path gives it."""
        factors = (*self, *(self.flip or ()))
        return any(isinstance(one, Tensor) and one.requires_grad for one in factors)

    def at(self, t: int) -> StepMasks:
        """The factors of step t."""
        return StepMasks(
            hidden=self.hidden,
            candidate=_at(self.candidate, t),
            memory=self.memory,
            memory_scale=self.memory_scale,
            zone_cell=_zone_at(self.zone_cell, t),
            zone_hidden=_zone_at(self.zone_hidden, t),
            flip=self.flip,
        )


class Masks(NamedTuple):
    """Factors of a whole forward pass.

    Attributes:
        layers: by layer and direction.
        output: [T or 1, 1, B, width], on the output of the top layer.
    """

    layers: tuple[tuple[LayerMasks, ...], ...]
    output: Tensor | None = None


def expectation(zoneout: Zoneout, cell: str, layer: int, direction: int) -> LayerMasks:
    """Zoneout's inference: each zone's rate in the place of its mask."""
    of_cell, of_hidden = (
        float(rate_at(rate, layer, direction)) for rate in (zoneout.cell, zoneout.hidden)
    )
    return LayerMasks(
        zone_cell=of_cell if cell == "lstm" and of_cell > 0 else None,
        zone_hidden=of_hidden if of_hidden > 0 else None,
    )


def _at(mask: Tensor | None, t: int) -> Tensor | None:
    return None if mask is None else mask[t if mask.shape[0] > 1 else 0]


def _zone_at(zone: Tensor | float | None, t: int) -> Tensor | float | None:
    return zone[t] if isinstance(zone, Tensor) else zone
