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
        return ((~dropped).to(self.dtype) * _scale(method.p))[:, :, None]

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
        return {"weight": self._shared(p, _Draw.WEIGHT, place, kept=_scale(p))}

    def _flipped_weight(self, p: float, place: Place) -> dict[str, Any]:
        """Masks base + sign * rows_b columns_b^T; see :class:`WeightDrop`.

        Where a weight is at stake, base is half of 1 / (1 - p) and sign +- the same.
        """
        scale, size, stake = _scale(p), place.hidden_size, 2 * min(p, 1 - p)
        at_stake = self._shared(stake, _Draw.WEIGHT, place, dropped=0.5, kept=0.0)
        sign = self._shared(0.5, _Draw.FLIP_SIGN, place, dropped=-1.0)
        rows = self._draw(0.5, _Draw.FLIP_ROWS, place, place.gates * size, dropped=-1.0)
        columns = self._draw(0.5, _Draw.FLIP_COLUMNS, place, size, dropped=-1.0)
        base = 1 - at_stake if p <= 0.5 else at_stake
        return {
            "weight": base * scale,
            "flip": Flip(sign * at_stake * scale, rows[0], columns[0]),
        }

    def _memory(self, method: RNNDrop, place: Place, hidden: Tensor | None) -> dict[str, Any]:
        p = _rate(method.p, place)
        if p == 0:
            return {}
        memory, scale = self._draw(p, _Draw.MEMORY, place, place.hidden_size)[0], _scale(p)
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
        size = place.hidden_size
        return self._draw(rate, draw, place, size, timed=True, dropped=1.0, kept=0.0)

    def _key(self, draw: _Draw, place: Place, *, timed: bool) -> int:
        if self.sequences is not None and not timed:
            return counter_rng.derive_key(self.seed, place.layer, place.direction, draw)
        return counter_rng.derive_key(self.seed, self.step, place.layer, place.direction, draw)

    def _draw(
        self,
        p: float,
        draw: _Draw,
        place: Place,
        units: int,
        *,
        timed: bool = False,
        dropped: float = 0.0,
        kept: float = 1.0,
    ) -> Tensor:
        """A factor for what each sample drops and another for the rest, [T or 1, B, units]."""
        return counter_rng.factors(
            self._key(draw, place, timed=timed),
            p,
            times=self.time if timed else 1,
            samples=self.batch if self.sequences is None else self.sequences,
            units=units,
            dropped=dropped,
            kept=kept,
            sample_offset=self.sample_offset,
            dtype=self.dtype,
            device=self.device,
        )

    def _shared(
        self, p: float, draw: _Draw, place: Place, *, dropped: float = 0.0, kept: float = 1.0
    ) -> Tensor:
        """The same of W_hh for the whole batch in this pass, [G*H, H]."""
        rows, size = place.gates * place.hidden_size, place.hidden_size
        drawn = counter_rng.factors(
            # Of the pass always, whatever sequences the rows belong to, and sample 0's.
            self._key(draw, place, timed=True),
            p,
            times=1,
            samples=1,
            units=rows * size,
            dropped=dropped,
            kept=kept,
            dtype=self.dtype,
            device=self.device,
        )
        return drawn.view(rows, size)

    def _kept(
        self, p: float, draw: _Draw, place: Place, units: int, *, timed: bool = False
    ) -> Tensor | None:
        """A mask of 0 and 1 / (1 - p), [T or 1, B, units]."""
        return None if p == 0 else self._draw(p, draw, place, units, timed=timed, kept=_scale(p))


def _rate(rate: Rate, place: Place) -> float:
    return rate_at(rate, place.layer, place.direction)


def _input_method(regularizers: Sequence[Regularizer]) -> Zaremba | Variational | None:
    return find(regularizers, Zaremba) or find(regularizers, Variational)


def _scale(p: float) -> float:
    """1 / (1 - p); with p = 1 every element is dropped, so that any finite value does."""
    return 0.0 if p == 1 else 1.0 / (1.0 - p)
