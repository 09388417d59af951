"""The recurrent networks that the tests of the core run over."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tidegate.train import (
    Recurrent,
    RNNDrop,
    Semeniuta,
    Variational,
    WeightDrop,
    Zaremba,
    Zoneout,
)
from tidegate.train.masks import LayerMasks, Masks
from tidegate.train.recurrent import CellName
from tidegate.train.regularizers import Regularizer

INPUT, HIDDEN = 3, 4


class Case(NamedTuple):
    """A network's cell and shape."""

    cell: CellName
    reset_after: bool = True
    layers: int = 1
    directions: int = 1

    def __str__(self) -> str:
        return f"{self.flavour}-{self.layers}x{self.directions}"

    @property
    def flavour(self) -> str:
        """The name of the cell's equations."""
        return self.cell if self.reset_after else f"{self.cell}_reset_before"

    def build(
        self,
        *regularizers: Regularizer,
        dtype: torch.dtype = torch.float64,
        input_size: int = INPUT,
        hidden_size: int = HIDDEN,
        **arguments: bool | str,
    ) -> Recurrent:
        """A network with weights and masks by a fixed seed."""
        torch.manual_seed(7)
        return Recurrent(
            self.cell,
            input_size,
            hidden_size,
            self.layers,
            bidirectional=self.directions == 2,
            regularizers=regularizers,
            reset_after=self.reset_after,
            dtype=dtype,
            **arguments,  # type: ignore[arg-type]  # merge and batch_first
        )

    def build_torch(self, dtype: torch.dtype = torch.float64) -> nn.RNNBase:
        """torch's own network of the same shape."""
        modules: dict[str, Callable[..., nn.RNNBase]] = {
            "lstm": nn.LSTM,
            "gru": nn.GRU,
            "rnn": nn.RNN,
        }
        return modules[self.cell](
            INPUT,
            HIDDEN,
            self.layers,
            bidirectional=self.directions == 2,
            batch_first=True,
            dtype=dtype,
        )


FLAVOURS = (Case("lstm"), Case("gru"), Case("gru", reset_after=False), Case("rnn"))
CASES = tuple(
    one._replace(layers=layers, directions=directions)
    for one in FLAVOURS
    for layers in (1, 2, 3)
    for directions in (1, 2)
)
CAUSAL = tuple(case for case in CASES if case.directions == 1)
BIDIRECTIONAL = tuple(case for case in CASES if case.directions == 2)
IN_TORCH = tuple(case for case in CASES if case.reset_after)

METHODS: dict[str, tuple[Regularizer, ...]] = {
    "zaremba": (Zaremba(0.4),),
    "zaremba-sequence": (Zaremba(0.4, granularity="sequence"),),
    "rnndrop": (RNNDrop(0.4),),
    "variational": (Variational(0.4, hidden_p=0.3),),
    "variational-untied": (Variational(0.4, hidden_p=0.3, tied=False),),
    "weight_drop": (WeightDrop(0.4),),
    "weight_drop-per-example": (WeightDrop(0.3, per_example=True),),
    "semeniuta": (Semeniuta(0.4),),
    "semeniuta-sequence": (Semeniuta(0.4, granularity="sequence"),),
    "zoneout": (Zoneout(cell=0.5, hidden=0.3),),
    "zoneout-cell": (Zoneout(cell=0.5, hidden=0.0),),
    "zoneout-hidden": (Zoneout(cell=0.0, hidden=0.5),),
    "zoneout-shared": (Zoneout(cell=0.4, hidden=0.4, shared=True),),
}
COMBINATIONS: dict[str, tuple[Regularizer, ...]] = {
    "zaremba+weight_drop": (Zaremba(0.3, granularity="sequence"), WeightDrop(0.5)),
    "zaremba+zoneout": (Zaremba(0.3), Zoneout(cell=0.5, hidden=0.2)),
    "variational+rnndrop": (Variational(0.3, tied=False), RNNDrop(0.4)),
    "variational+zoneout+weight_drop": (Variational(0.3), Zoneout(), WeightDrop(0.3)),
    "zaremba+semeniuta+rnndrop": (Zaremba(0.3), Semeniuta(0.3), RNNDrop(0.3)),
    "variational+weight_drop-per-example": (
        Variational(0.3, tied=False, output_p=0.2),
        WeightDrop(0.7, per_example=True),
    ),
    "rnndrop+weight_drop-per-example": (RNNDrop(0.3), WeightDrop(0.5, per_example=True)),
}


def fits(case: Case, regularizers: Sequence[Regularizer]) -> bool:
    """Whether the cell has the sites that the methods mask."""
    if case.cell == "rnn" and any(isinstance(one, Semeniuta) for one in regularizers):
        return False
    return case.cell == "lstm" or not any(
        isinstance(one, Zoneout) and (one.hidden == 0 or one.shared) for one in regularizers
    )


def methods_for(cases: Sequence[Case], names: Iterable[str]) -> list[tuple[Case, str]]:
    """Every case with the name of every method that fits it."""
    return [(case, name) for case in cases for name in names if fits(case, regularizers(name))]


def regularizers(name: str) -> tuple[Regularizer, ...]:
    """The methods by a name of METHODS or COMBINATIONS."""
    return METHODS.get(name) or COMBINATIONS[name]


def inputs(batch: int = 3, time: int = 5, dtype: torch.dtype = torch.float64) -> Tensor:
    """[B, T, I], the same for the same shape."""
    generator = torch.Generator().manual_seed(batch * 1000 + time)
    return torch.randn(batch, time, INPUT, generator=generator, dtype=torch.float64).to(dtype)


def initial_state(model: Recurrent, batch: int = 3) -> tuple[Tensor, ...]:
    """A random (h,) or (h, c), each [L*D, B, H]."""
    generator = torch.Generator().manual_seed(99)
    shape = (model.num_layers * model.num_directions, batch, model.hidden_size)
    count = 2 if model.cell == "lstm" else 1
    dtype = next(model.parameters()).dtype
    return tuple(
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(count)
    )


def packed(states: Sequence[Tensor]) -> Tensor | tuple[Tensor, Tensor]:
    """The state as forward takes it: h, or (h, c)."""
    return states[0] if len(states) == 1 else (states[0], states[1])


def unpacked(state: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """The state as a tuple of tensors."""
    return (state,) if isinstance(state, Tensor) else tuple(state)


def layer_slice(masks: LayerMasks, rows: slice, times: slice) -> LayerMasks:
    """What the masks of a batch are for some of its rows and steps."""

    def cut(mask: Tensor | float | None, batch_axis: int, *, timed: bool) -> Tensor | None:
        if mask is None:
            return None
        assert isinstance(mask, Tensor)
        mask = mask[times] if timed and mask.shape[0] > 1 else mask
        return mask[(slice(None),) * batch_axis + (rows,)]

    return masks._replace(
        input=cut(masks.input, 2, timed=True),
        hidden=cut(masks.hidden, 1, timed=False),
        candidate=cut(masks.candidate, 1, timed=True),
        memory=cut(masks.memory, 0, timed=False),
        zone_cell=cut(masks.zone_cell, 1, timed=True),
        zone_hidden=cut(masks.zone_hidden, 1, timed=True),
        flip=masks.flip
        and masks.flip._replace(rows=masks.flip.rows[rows], columns=masks.flip.columns[rows]),
    )


def mask_slice(masks: Masks, rows: slice = slice(None), times: slice = slice(None)) -> Masks:
    """What the masks of a batch are for some of its rows and steps."""
    layers = tuple(
        tuple(layer_slice(one, rows, times) for one in directions) for directions in masks.layers
    )
    output = masks.output
    if output is not None:
        output = (output[times] if output.shape[0] > 1 else output)[:, :, rows]
    return Masks(layers, output)
