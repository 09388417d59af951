"""One step of each recurrent cell, as pure functions.

Dimensions: B batch, H hidden, G gates.

The input's share of the gates, W_ih x + b_ih, does not depend on the state and
arrives computed. Masks are factors; None means that there is none. A mask
never multiplies the carried memory at a single step: it acts where a value
enters the gates, on the candidate, or over a whole sequence.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class State(NamedTuple):
    """What a cell carries: h [B, H] and, for the LSTM, c [B, H]."""

    h: Tensor
    c: Tensor | None = None


class Flip(NamedTuple):
    """Each row's own part of a mask on W_hh: that of row b is weight * rows_b columns_b^T.

    Source: Wen et al. 2018, arXiv 1803.04386.

    Attributes:
        weight: [G*H, H], a factor of W_hh; in a step, already times W_hh.
        rows: [B, G*H] of 1 and -1.
        columns: [B, H] of 1 and -1.
    """

    weight: Tensor
    rows: Tensor
    columns: Tensor


class StepMasks(NamedTuple):
    """The factors of one step; see :class:`tidegate.train.masks.LayerMasks`."""

    hidden: Tensor | None = None
    candidate: Tensor | None = None
    memory: Tensor | None = None
    memory_scale: float = 1.0
    zone_cell: Tensor | float | None = None
    zone_hidden: Tensor | float | None = None
    flip: Flip | None = None


class Weights(NamedTuple):
    """Weights of one layer and direction, in torch's layout.

    weight_ih [G*H, I], weight_hh [G*H, H], bias_ih [G*H], bias_hh [G*H].
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor


class Step(NamedTuple):
    """Result of a step: what goes to the next layer, and to the next step."""

    output: Tensor
    state: State


def lstm_step(gates: Tensor, state: State, weights: Weights, masks: StepMasks) -> Step:
    """c_t = f c_{t-1} + i g, h_t = o tanh(c_t); gates in the order i, f, g, o.

    Source: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al.

    Args:
        gates: W_ih x_t + b_ih, [B, 4H].
        state: h and c.
        weights: of the layer.
        masks: of the step.

    Raises:
        ValueError: the state has no c.
    """
    h, c = state
    if c is None:
        raise ValueError("state.c is None; an LSTM carries both h and c")
    i, f, g, o = (gates + _recurrent(h, weights, masks.hidden, masks.flip)).chunk(4, dim=-1)
    candidate = _times(torch.tanh(g), masks.candidate)
    c_new = torch.sigmoid(f) * c + torch.sigmoid(i) * candidate
    c_new = _times(c_new, masks.memory)
    h_new = torch.sigmoid(o) * torch.tanh(c_new) * masks.memory_scale
    # Zoneout: h~ is computed from the updated cell, before the old one is mixed in.
    h_new = _keep_old(h_new, h, masks.zone_hidden)
    return Step(h_new, State(h_new, _keep_old(c_new, c, masks.zone_cell)))


def gru_step(gates: Tensor, state: State, weights: Weights, masks: StepMasks) -> Step:
    """h_t = (1 - z) n + z h_{t-1}, with the reset gate after the product (torch, cuDNN).

    n = tanh(W_in x + b_in + r * (W_hn h + b_hn)); gates in the order r, z, n.

    Args:
        gates: W_ih x_t + b_ih, [B, 3H].
        state: h.
        weights: of the layer.
        masks: of the step.
    """
    x_r, x_z, x_n = gates.chunk(3, dim=-1)
    h_r, h_z, h_n = _recurrent(state.h, weights, masks.hidden, masks.flip).chunk(3, dim=-1)
    r = torch.sigmoid(x_r + h_r)
    n = torch.tanh(x_n + r * h_n)
    return _gru_output(torch.sigmoid(x_z + h_z), n, state.h, masks)


def gru_reset_before_step(gates: Tensor, state: State, weights: Weights, masks: StepMasks) -> Step:
    """The GRU with the reset gate before the product: n = tanh(W_in x + W_hn (r * h) + b).

    Source: Cho et al. 2014, arXiv 1406.1078. Weights are not interchangeable
    with those of :func:`gru_step`.

    Args:
        gates: W_ih x_t + b_ih, [B, 3H].
        state: h.
        weights: of the layer.
        masks: of the step.
    """
    size = state.h.shape[-1]
    x_r, x_z, x_n = gates.chunk(3, dim=-1)
    hidden_rz, hidden_n = _split_gates(masks.hidden, 2)
    rz, last = slice(0, 2 * size), slice(2 * size, 3 * size)
    from_h = _recurrent(state.h, _rows(weights, rz), hidden_rz, _flip_rows(masks.flip, rz))
    h_r, h_z = from_h.chunk(2, dim=-1)
    reset = torch.sigmoid(x_r + h_r) * state.h
    from_reset = _recurrent(reset, _rows(weights, last), hidden_n, _flip_rows(masks.flip, last))
    n = torch.tanh(x_n + from_reset)
    return _gru_output(torch.sigmoid(x_z + h_z), n, state.h, masks)


def rnn_step(gates: Tensor, state: State, weights: Weights, masks: StepMasks) -> Step:
    """h_t = tanh(W_ih x + b_ih + W_hh h_{t-1} + b_hh) (Elman 1990).

    Args:
        gates: W_ih x_t + b_ih, [B, H].
        state: h.
        weights: of the layer.
        masks: of the step.
    """
    h_new = torch.tanh(gates + _recurrent(state.h, weights, masks.hidden, masks.flip))
    return _expose(_keep_old(h_new, state.h, masks.zone_hidden), masks)


def _gru_output(z: Tensor, n: Tensor, h: Tensor, masks: StepMasks) -> Step:
    # The leak path z * h sees the carried h, unmasked and unscaled.
    h_new = (1 - z) * _times(n, masks.candidate) + z * h
    return _expose(_keep_old(h_new, h, masks.zone_hidden), masks)


def _expose(h: Tensor, masks: StepMasks) -> Step:
    """Carries h as it is; RNNDrop masks only what leaves the layer."""
    if masks.memory is None:
        return Step(h, State(h))
    return Step(h * masks.memory * masks.memory_scale, State(h))


def _recurrent(
    h: Tensor, weights: Weights, mask: Tensor | None, flip: Flip | None = None
) -> Tensor:
    """W_hh (h * mask) + b_hh; mask [1, B, H], or [G, B, H] for one mask a gate."""
    product = _product(h, weights.weight_hh, mask) + weights.bias_hh
    if flip is None:
        return product
    return product + flip.rows * _product(h * flip.columns, flip.weight, mask)


def _product(h: Tensor, weight: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None or mask.shape[0] == 1:
        return F.linear(h if mask is None else h * mask[0], weight)
    per_gate = weight.view(mask.shape[0], -1, h.shape[-1])
    return torch.einsum("gbh,gkh->bgk", h * mask, per_gate).flatten(1)


def _split_gates(mask: Tensor | None, first: int) -> tuple[Tensor | None, Tensor | None]:
    if mask is None or mask.shape[0] == 1:
        return mask, mask
    return mask[:first], mask[first:]


def _rows(weights: Weights, rows: slice) -> Weights:
    return Weights(*(tensor[rows] for tensor in weights))


def _flip_rows(flip: Flip | None, rows: slice) -> Flip | None:
    return flip and Flip(flip.weight[rows], flip.rows[:, rows], flip.columns)


def _times(value: Tensor, mask: Tensor | None) -> Tensor:
    return value if mask is None else value * mask


def _keep_old(new: Tensor, old: Tensor, zone: Tensor | float | None) -> Tensor:
    """Zoneout's mixture: a 0/1 mask in training, the rate itself in inference."""
    return new if zone is None else zone * old + (1 - zone) * new
