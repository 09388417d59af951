"""Runs one layer in one direction over a sequence.

Dimensions: T time, B batch, I input size, H hidden, G gates. Everything here
is time-major. Four paths compute the same equations: :func:`unroll` is the
readable reference and the specification; the native kernels take every mask
too, one on the CPU, one on CUDA devices; :func:`torch_kernel` is torch's own
kernel and takes the masks that can be applied before the first step.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from tidegate.train.cells import (
    State,
    Step,
    StepMasks,
    Weights,
    gru_reset_before_step,
    gru_step,
    lstm_step,
    rnn_step,
)
from tidegate.train.input_gates import input_gates
from tidegate.train.kernels import recurrent_layer as native
from tidegate.train.kernels.cuda import recurrent_layer as cuda
from tidegate.train.masks import LayerMasks
from tidegate.train.torch_kernel import Kernel, torch_kernel

StepFunction = Callable[[Tensor, State, Weights, StepMasks], Step]


class Cell(NamedTuple):
    """A cell's step, and torch's kernel of the same equations where there is one."""

    name: str
    gates: int
    step: StepFunction
    kernel: Kernel | None
    native: str

    @property
    def has_memory_cell(self) -> bool:
        """Whether the state holds c beside h."""
        return self.name == "lstm"


def find_cell(name: str, *, reset_after: bool) -> Cell:
    """The cell by its name, "lstm", "gru" or "rnn"."""
    if name == "gru" and not reset_after:
        return Cell("gru", 3, gru_reset_before_step, None, "gru_reset_before")
    return _CELLS[name]


_CELLS = {
    "lstm": Cell("lstm", 4, lstm_step, torch.lstm, "lstm"),
    "gru": Cell("gru", 3, gru_step, torch.gru, "gru"),
    "rnn": Cell("rnn", 1, rnn_step, torch.rnn_tanh, "rnn"),
}


def run_layer(
    cell: Cell,
    x: Tensor,
    lengths: Tensor | None,
    state: State,
    weights: Weights,
    masks: LayerMasks,
    *,
    reverse: bool,
) -> tuple[Tensor, State]:
    """Runs the layer on the faster path that its masks allow.

    Args:
        cell: from :func:`find_cell`.
        x: [T, B, I]; padding is finite.
        lengths: int64 [B], or None when every row has T steps.
        state: before the first step, [B, H].
        weights: of the layer and direction.
        masks: of the layer and direction.
        reverse: whether time runs backwards, from each row's last real step.

    Returns:
        The output [T, B, H], zero in padding, and the state after each row's
        last step.
    """
    if (cell.kernel is None or _has_masks(masks)) and native.supports(weights, masks):
        return native.recurrent_layer(
            cell.native, x, lengths, state, weights, masks, reverse=reverse
        )
    if cell.kernel is None or not masks.outside_the_recurrence:
        if cuda.supports(weights, masks):
            output, carried = cuda.recurrent_layer(
                cell.native, x, lengths, state, weights, masks, reverse=reverse
            )
            return output, carried
        return unroll(cell, x, lengths, state, weights, masks, reverse=reverse)
    if masks.weight is not None:
        weights = weights._replace(weight_hh=weights.weight_hh * masks.weight)
    if masks.input is not None:
        x = x * masks.input[:, 0]
    if reverse:
        x = _reversed(x, lengths)
    states = tuple(tensor[None] for tensor in state if tensor is not None)
    output, new = torch_kernel(cell.kernel, x, lengths, states, weights)
    return (_reversed(output, lengths) if reverse else output), State(*(one[0] for one in new))


def unroll(
    cell: Cell,
    x: Tensor,
    lengths: Tensor | None,
    state: State,
    weights: Weights,
    masks: LayerMasks,
    *,
    reverse: bool,
) -> tuple[Tensor, State]:
    """The reference path: a plain loop over a step function.

    Arguments and result as for :func:`run_layer`. Update first, then zoneout
    (inside the step), then the padding rule: a padded step changes nothing.
    """
    if masks.flip is not None:
        flipped = weights.weight_hh * masks.flip.weight
        masks = masks._replace(flip=masks.flip._replace(weight=flipped))
    if masks.weight is not None:
        weights = weights._replace(weight_hh=weights.weight_hh * masks.weight)
    gates = input_gates(x, weights, masks.input)
    times = range(x.shape[0])
    outputs: list[Tensor] = []
    for t in reversed(times) if reverse else times:
        output, new = cell.step(gates[t], state, weights, masks.at(t))
        if lengths is not None:
            real = (t < lengths)[:, None]
            output = torch.where(real, output, torch.zeros_like(output))
            new = _where(real, new, state)
        state = new
        outputs.append(output)
    return torch.stack(outputs[::-1] if reverse else outputs), state


def _has_masks(masks: LayerMasks) -> bool:
    return any(mask is not None for name, mask in masks._asdict().items() if name != "memory_scale")


def _reversed(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Reverses time within each row's real steps; padding stays in its place."""
    if lengths is None:
        return x.flip(0)
    times = torch.arange(x.shape[0], device=x.device)[:, None]
    source = torch.where(times < lengths, lengths - 1 - times, times)
    return x.gather(0, source[:, :, None].expand_as(x))


def _where(real: Tensor, new: State, old: State) -> State:
    h = torch.where(real, new.h, old.h)
    if new.c is None or old.c is None:
        return State(h)
    return State(h, torch.where(real, new.c, old.c))
