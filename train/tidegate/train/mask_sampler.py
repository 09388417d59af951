"""Draws the masks of a forward pass: a regularizer's rates become data.

Dimensions: T time, B batch, I input size of the layer, H hidden, G gates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor

from tidegate.train import counter_rng
from tidegate.train.cells import Flip
from tidegate.train.masks import LayerMasks
from tidegate.train.rates import Rate, rate_at
from tidegate.train.regularizers import (
    EmbeddingDropout,
    Regularizer,
    RNNDrop,
    Semeniuta,
    Variational,
    WeightDrop,
    Zaremba,
    Zoneout,
    find,
)


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
    FLIP_SIGN = 9
    FLIP_ROWS = 10
    FLIP_COLUMNS = 11
    EMBEDDING = 12


@dataclass(frozen=True)
class Place:
    """A layer and direction, and their sizes."""

    layer: int
    direction: int
    cell: str
    gates: int
    input_size: int
    hidden_size: int


@dataclass(frozen=True)
class MaskSampler:
    """Draws one mask after another for one forward pass.

    Attributes:
        seed: of the model.
        step: number of the forward pass.
        batch: B.
        time: T.
        sample_offset: index of this batch's first sample in the whole batch.
        sequences: int64 [B], the number of each row's sequence. A row then draws
            by it and not by its place in the batch, and its masks per sequence
            do not depend on ``step``: they persist.
        dtype: of the masks.
        device: of the masks.
    """

    seed: int
    step: int
    batch: int
    time: int
    sample_offset: int = 0
    sequences: Tensor | None = None
    dtype: torch.dtype = torch.float32
    device: torch.device | None = None

    def layer(self, regularizers: Sequence[Regularizer], place: Place) -> LayerMasks:
        """Draws what the regularizers ask for in one layer and direction."""
        fields: dict[str, Any] = {"input": self._input(regularizers, place)}
        if variational := find(regularizers, Variational):
            fields["hidden"] = self._hidden(variational, place)
        if weight_drop := find(regularizers, WeightDrop):
            fields |= self._weight(weight_drop, place)
        if semeniuta := find(regularizers, Semeniuta):
            fields["candidate"] = self._kept(
                _rate(semeniuta.p, place),
                _Draw.CANDIDATE,
                place,
                place.hidden_size,
                timed=not semeniuta.per_sequence,
            )
        if rnndrop := find(regularizers, RNNDrop):
            fields |= self._memory(rnndrop, place, fields.get("hidden"))
        if zoneout := find(regularizers, Zoneout):
            fields |= self._zones(zoneout, place)
        return LayerMasks(**fields)

    def output(
        self, regularizers: Sequence[Regularizer], *, num_layers: int, width: int
    ) -> Tensor | None:
        """Draws the mask of the top layer's output, [T or 1, 1, B, width]."""
        method = _input_method(regularizers)
        if method is None:
            return None
        above = Place(num_layers, 0, "", 0, 0, width)
        timed = not method.per_sequence
        kept = self._kept(method.output_rate, _Draw.OUTPUT, above, width, timed=timed)
        return None if kept is None else kept[:, None]

    def words(self, method: EmbeddingDropout, tokens: Tensor) -> Tensor:
        """Draws the factors of words: one for each word type of a row.

        Args:
            method: whose rate to take.
            tokens: token ids, int64 [B, T].

        Returns:
            [B, T, 1].
        """
        dropped = counter_rng.drop_units(
            self._key(_Draw.EMBEDDING, Place(0, 0, "", 0, 0, 0), timed=False),
            method.p,
            units=tokens,
            samples=self._samples(),
        )
        return self._scaled(dropped, method.p)[:, :, None]

    def _samples(self) -> Tensor:
        """The number of each row, int64 [B]."""
        if self.sequences is not None:
            return self.sequences
        first = self.sample_offset
        return torch.arange(first, first + self.batch, device=self.device)

    def _input(self, regularizers: Sequence[Regularizer], place: Place) -> Tensor | None:
        method = _input_method(regularizers)
        if method is None:
            return None
        masks = 1 if not isinstance(method, Variational) or method.tied else place.gates
        units, timed = masks * place.input_size, not method.per_sequence
        kept = self._kept(_rate(method.p, place), _Draw.INPUT, place, units, timed=timed)
        if kept is None:
            return None
        return kept.view(-1, self.batch, masks, place.input_size).transpose(1, 2)

    def _hidden(self, method: Variational, place: Place) -> Tensor | None:
        masks, size = 1 if method.tied else place.gates, place.hidden_size
        kept = self._kept(_rate(method.recurrent_p, place), _Draw.HIDDEN, place, masks * size)
        return None if kept is None else kept.view(self.batch, masks, size).transpose(0, 1)

    def _weight(self, method: WeightDrop, place: Place) -> dict[str, Any]:
        p = _rate(method.p, place)
        if p == 0:
            return {}
        if method.per_example:
            return self._flipped_weight(p, place)
        return {"weight": self._scaled(self._shared(p, _Draw.WEIGHT, place), p)}

    def _flipped_weight(self, p: float, place: Place) -> dict[str, Any]:
        """Masks base + sign * rows_b columns_b^T; see :class:`WeightDrop`.

        Where a weight is at stake, base is half of 1 / (1 - p) and sign +- the same.
        """
        scale, size = _scale(p), place.hidden_size
        at_stake = self._shared(2 * min(p, 1 - p), _Draw.WEIGHT, place).to(self.dtype) * 0.5
        sign = self._signs(self._shared(0.5, _Draw.FLIP_SIGN, place))
        rows = self._drop(0.5, _Draw.FLIP_ROWS, place, place.gates * size)
        columns = self._drop(0.5, _Draw.FLIP_COLUMNS, place, size)
        base = 1 - at_stake if p <= 0.5 else at_stake
        flip = Flip(sign * at_stake * scale, self._signs(rows[0]), self._signs(columns[0]))
        return {"weight": base * scale, "flip": flip}

    def _memory(self, method: RNNDrop, place: Place, hidden: Tensor | None) -> dict[str, Any]:
        p = _rate(method.p, place)
        if p == 0:
            return {}
        dropped = self._drop(p, _Draw.MEMORY, place, place.hidden_size)
        memory, scale = (~dropped[0]).to(self.dtype), _scale(p)
        fields: dict[str, Any] = {"memory": memory, "memory_scale": scale}
        if place.cell != "lstm":
            # The carried h is raw, so the mask also stands where it re-enters the gates.
            exposed = memory[None] * scale
            fields["hidden"] = exposed if hidden is None else exposed * hidden
        return fields

    def _zones(self, method: Zoneout, place: Place) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        if place.cell == "lstm":
            fields["zone_cell"] = self._zone(_rate(method.cell, place), _Draw.ZONE_CELL, place)
        if method.shared:
            return fields | {"zone_hidden": fields["zone_cell"]}
        hidden = self._zone(_rate(method.hidden, place), _Draw.ZONE_HIDDEN, place)
        return fields | {"zone_hidden": hidden}

    def _zone(self, rate: float, draw: _Draw, place: Place) -> Tensor | None:
        if rate == 0:
            return None
        return self._drop(rate, draw, place, place.hidden_size, timed=True).to(self.dtype)

    def _key(self, draw: _Draw, place: Place, *, timed: bool) -> int:
        if self.sequences is not None and not timed:
            return counter_rng.derive_key(self.seed, place.layer, place.direction, draw)
        return counter_rng.derive_key(self.seed, self.step, place.layer, place.direction, draw)

    def _drop(
        self, p: float, draw: _Draw, place: Place, units: int, *, timed: bool = False
    ) -> Tensor:
        """What each sample drops, bool [T or 1, B, units]."""
        return counter_rng.drop(
            self._key(draw, place, timed=timed),
            p,
            times=self.time if timed else 1,
            samples=self.batch if self.sequences is None else self.sequences,
            units=units,
            sample_offset=self.sample_offset,
            device=self.device,
        )

    def _shared(self, p: float, draw: _Draw, place: Place) -> Tensor:
        """What the whole batch drops of W_hh in this pass, bool [G*H, H]."""
        rows, size = place.gates * place.hidden_size, place.hidden_size
        # Of the pass always, whatever sequences the rows belong to, and sample 0's.
        key = self._key(draw, place, timed=True)
        units = rows * size
        dropped = counter_rng.drop(key, p, times=1, samples=1, units=units, device=self.device)
        return dropped.view(rows, size)

    def _kept(
        self, p: float, draw: _Draw, place: Place, units: int, *, timed: bool = False
    ) -> Tensor | None:
        """A mask of 0 and 1 / (1 - p), [T or 1, B, units]."""
        if p == 0:
            return None
        return self._scaled(self._drop(p, draw, place, units, timed=timed), p)

    def _scaled(self, dropped: Tensor, p: float) -> Tensor:
        return (~dropped).to(self.dtype) * _scale(p)

    def _signs(self, negative: Tensor) -> Tensor:
        return 1 - 2 * negative.to(self.dtype)


def _rate(rate: Rate, place: Place) -> float:
    return rate_at(rate, place.layer, place.direction)


def _input_method(regularizers: Sequence[Regularizer]) -> Zaremba | Variational | None:
    return find(regularizers, Zaremba) or find(regularizers, Variational)


def _scale(p: float) -> float:
    """1 / (1 - p); with p = 1 every element is dropped, so that any finite value does."""
    return 0.0 if p == 1 else 1.0 / (1.0 - p)
