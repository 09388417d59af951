"""Draws the masks of a forward pass: a regularizer's rates become data.

Dimensions: T time, B batch, I input size of the layer, H hidden, G gates,
D directions. An axis of length 1 is shared: T for a per-sequence mask, G for
one mask tied over the gates.

Index t of a mask belongs to the input x_t, in the reverse direction too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

from tidegate.train import counter_rng
from tidegate.train.cells import StepMasks
from tidegate.train.regularizers import (
    Regularizer,
    RNNDrop,
    Semeniuta,
    Variational,
    WeightDrop,
    Zaremba,
    Zoneout,
    find,
)


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
    """

    input: Tensor | None = None
    hidden: Tensor | None = None
    weight: Tensor | None = None
    candidate: Tensor | None = None
    memory: Tensor | None = None
    memory_scale: float = 1.0
    zone_cell: Tensor | float | None = None
    zone_hidden: Tensor | float | None = None

    @property
    def outside_the_recurrence(self) -> bool:
        """Whether every mask can be applied before the first step."""
        inside = (self.hidden, self.candidate, self.memory, self.zone_cell, self.zone_hidden)
        untied = self.input is not None and self.input.shape[1] > 1
        return not untied and all(mask is None for mask in inside)

    def at(self, t: int) -> StepMasks:
        """The factors of step t."""
        return StepMasks(
            hidden=self.hidden,
            candidate=_at(self.candidate, t),
            memory=self.memory,
            memory_scale=self.memory_scale,
            zone_cell=_zone_at(self.zone_cell, t),
            zone_hidden=_zone_at(self.zone_hidden, t),
        )


class Masks(NamedTuple):
    """Factors of a whole forward pass.

    Attributes:
        layers: by layer and direction.
        output: [T or 1, 1, B, width], on the output of the top layer.
    """

    layers: tuple[tuple[LayerMasks, ...], ...]
    output: Tensor | None = None


class _Draw(IntEnum):
    """Keeps the draws of one layer and direction apart."""

    INPUT = 1
    HIDDEN = 2
    WEIGHT = 3
    CANDIDATE = 4
    MEMORY = 5
    ZONE_CELL = 6
    ZONE_HIDDEN = 7
    OUTPUT = 8


@dataclass(frozen=True)
class MaskSampler:
    """Draws one mask after another for one forward pass.

    Attributes:
        seed: of the model.
        step: number of the forward pass.
        batch: B.
        time: T.
        sample_offset: index of this batch's first sample in the whole batch.
        dtype: of the masks.
        device: of the masks.
    """

    seed: int
    step: int
    batch: int
    time: int
    sample_offset: int = 0
    dtype: torch.dtype = torch.float32
    device: torch.device | None = None

    def layer(
        self,
        regularizers: Sequence[Regularizer],
        *,
        layer: int,
        direction: int,
        cell: str,
        gates: int,
        input_size: int,
        hidden_size: int,
    ) -> LayerMasks:
        """Draws what the regularizers ask for in one layer and direction."""
        at = (layer, direction)
        fields: dict[str, Tensor | float | None] = {
            "input": self._input(regularizers, at, gates, input_size)
        }
        if variational := find(regularizers, Variational):
            fields["hidden"] = self._hidden(variational, at, gates, hidden_size)
        if weight_drop := find(regularizers, WeightDrop):
            fields["weight"] = self._weight(weight_drop, at, gates, hidden_size)
        if semeniuta := find(regularizers, Semeniuta):
            times = self._times(semeniuta.granularity)
            fields["candidate"] = self._kept(semeniuta.p, _Draw.CANDIDATE, at, times, hidden_size)
        if rnndrop := find(regularizers, RNNDrop):
            fields |= self._memory(rnndrop, at, hidden_size, fields.get("hidden"), cell)
        if zoneout := find(regularizers, Zoneout):
            fields |= self._zones(zoneout, at, hidden_size, cell)
        return LayerMasks(**fields)  # type: ignore[arg-type]  # keys are field names

    def output(
        self, regularizers: Sequence[Regularizer], *, num_layers: int, width: int
    ) -> Tensor | None:
        """Draws the mask of the top layer's output, [T or 1, 1, B, width]."""
        method = _input_method(regularizers)
        if method is None or method.p == 0:
            return None
        times = self._times(_input_granularity(method))
        kept = self._kept(method.p, _Draw.OUTPUT, (num_layers, 0), times, width)
        return None if kept is None else kept[:, None]

    def _input(
        self,
        regularizers: Sequence[Regularizer],
        at: tuple[int, int],
        gates: int,
        input_size: int,
    ) -> Tensor | None:
        method = _input_method(regularizers)
        if method is None:
            return None
        masks = 1 if not isinstance(method, Variational) or method.tied else gates
        times = self._times(_input_granularity(method))
        kept = self._kept(method.p, _Draw.INPUT, at, times, masks * input_size)
        if kept is None:
            return None
        return kept.view(times, self.batch, masks, input_size).transpose(1, 2)

    def _hidden(
        self, method: Variational, at: tuple[int, int], gates: int, hidden_size: int
    ) -> Tensor | None:
        masks = 1 if method.tied else gates
        kept = self._kept(method.recurrent_p, _Draw.HIDDEN, at, 1, masks * hidden_size)
        return None if kept is None else kept.view(self.batch, masks, hidden_size).transpose(0, 1)

    def _weight(
        self, method: WeightDrop, at: tuple[int, int], gates: int, hidden_size: int
    ) -> Tensor | None:
        if method.p == 0:
            return None
        units = gates * hidden_size * hidden_size
        # Shared by the batch: always the mask of sample 0.
        dropped = counter_rng.drop(
            self._key(_Draw.WEIGHT, at),
            method.p,
            times=1,
            samples=1,
            units=units,
            device=self.device,
        )
        return self._scaled(dropped, method.p).view(gates * hidden_size, hidden_size)

    def _memory(
        self,
        method: RNNDrop,
        at: tuple[int, int],
        hidden_size: int,
        hidden: Tensor | float | None,
        cell: str,
    ) -> dict[str, Tensor | float | None]:
        dropped = self._dropped(method.p, _Draw.MEMORY, at, 1, hidden_size)
        if dropped is None:
            return {}
        memory, scale = (~dropped[0]).to(self.dtype), _scale(method.p)
        fields: dict[str, Tensor | float | None] = {"memory": memory, "memory_scale": scale}
        if cell != "lstm":
            # The carried h is raw, so the mask also stands where it re-enters the gates.
            exposed = memory[None] * scale
            fields["hidden"] = exposed if hidden is None else exposed * hidden
        return fields

    def _zones(
        self, method: Zoneout, at: tuple[int, int], hidden_size: int, cell: str
    ) -> dict[str, Tensor | float | None]:
        zones = {"zone_hidden": (method.hidden, _Draw.ZONE_HIDDEN)}
        if cell == "lstm":
            zones["zone_cell"] = (method.cell, _Draw.ZONE_CELL)
        fields: dict[str, Tensor | float | None] = {}
        for name, (rate, draw) in zones.items():
            kept_old = self._dropped(rate, draw, at, self.time, hidden_size)
            fields[name] = None if kept_old is None else kept_old.to(self.dtype)
        return fields

    def _times(self, granularity: str) -> int:
        return self.time if granularity == "step" else 1

    def _key(self, draw: _Draw, at: tuple[int, int]) -> int:
        return counter_rng.derive_key(self.seed, self.step, *at, draw)

    def _dropped(
        self, p: float, draw: _Draw, at: tuple[int, int], times: int, units: int
    ) -> Tensor | None:
        if p == 0:
            return None
        return counter_rng.drop(
            self._key(draw, at),
            p,
            times=times,
            samples=self.batch,
            units=units,
            sample_offset=self.sample_offset,
            device=self.device,
        )

    def _kept(
        self, p: float, draw: _Draw, at: tuple[int, int], times: int, units: int
    ) -> Tensor | None:
        """A mask of 0 and 1 / (1 - p), [times, B, units]."""
        dropped = self._dropped(p, draw, at, times, units)
        return None if dropped is None else self._scaled(dropped, p)

    def _scaled(self, dropped: Tensor, p: float) -> Tensor:
        return (~dropped).to(self.dtype) * _scale(p)


def expectation(zoneout: Zoneout, cell: str) -> LayerMasks:
    """Zoneout's inference: each zone's rate in the place of its mask."""
    return LayerMasks(
        zone_cell=zoneout.cell if cell == "lstm" and zoneout.cell > 0 else None,
        zone_hidden=zoneout.hidden if zoneout.hidden > 0 else None,
    )


def _input_method(regularizers: Sequence[Regularizer]) -> Zaremba | Variational | None:
    return find(regularizers, Zaremba) or find(regularizers, Variational)


def _input_granularity(method: Zaremba | Variational) -> str:
    return method.granularity if isinstance(method, Zaremba) else "sequence"


def _scale(p: float) -> float:
    """1 / (1 - p); with p = 1 every element is dropped, so that any finite value does."""
    return 0.0 if p == 1 else 1.0 / (1.0 - p)


def _at(mask: Tensor | None, t: int) -> Tensor | None:
    return None if mask is None else mask[t if mask.shape[0] > 1 else 0]


def _zone_at(zone: Tensor | float | None, t: int) -> Tensor | float | None:
    return zone[t] if isinstance(zone, Tensor) else zone
