"""Checks of what a recurrent network is given, and the layout of its states.

Dimensions: T time, B batch, I input size, H hidden, L layers, D directions.
"""

from typing import TypeAlias

import torch
from torch import Tensor

from tidegate.train.cells import State

# h, or (h, c) for the LSTM, as torch.nn's modules take and return them.
TorchState: TypeAlias = Tensor | tuple[Tensor, Tensor]


def check_input(x: Tensor, input_size: int, *, batch_first: bool) -> None:
    """Checks x as the caller gave it, [B, T, I] or [T, B, I].

    Raises:
        ValueError: it has another shape, or is empty.
    """
    layout = "[batch, time, features]" if batch_first else "[time, batch, features]"
    if x.dim() != 3 or x.shape[-1] != input_size:
        raise ValueError(
            f"x has the shape {list(x.shape)}; give {layout} with {input_size} features"
        )
    if x.shape[0] == 0 or x.shape[1] == 0:
        raise ValueError("x is empty; give at least one row and one step")


def checked_lengths(
    lengths: Tensor | None, time: int, batch: int, device: torch.device
) -> Tensor | None:
    """The lengths as int64 [B]; None if every row is full.

    Raises:
        ValueError: they are not B integers, or one is beyond 1 to T.
    """
    if lengths is None:
        return None
    if lengths.shape != (batch,) or lengths.is_floating_point():
        raise ValueError(
            f"lengths has the shape {list(lengths.shape)} and dtype {lengths.dtype}; "
            f"give {batch} integers, one for each row"
        )
    low, high = int(lengths.min()), int(lengths.max())
    if low < 1 or high > time:
        raise ValueError(
            f"lengths run from {low} to {high}; each must be from 1 to the {time} steps of x"
        )
    return None if low == time else lengths.to(device=device, dtype=torch.int64)


def without_padding(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Zeros in the place of whatever the padding of x, [T, B, I], holds."""
    if lengths is None:
        return x
    padding = torch.arange(x.shape[0], device=x.device)[:, None] >= lengths
    # Not a product: 0 * NaN is NaN, in the backward pass too.
    return x.masked_fill(padding[:, :, None], 0.0)


def check_sequences(sequences: Tensor | None, batch: int, sample_offset: int) -> None:
    """Checks the numbers of the rows' sequences.

    Raises:
        ValueError: they are not B integers, or stand beside another numbering.
    """
    if sequences is None:
        return
    if sequences.shape != (batch,) or sequences.is_floating_point():
        raise ValueError(
            f"sequences has the shape {list(sequences.shape)} and dtype {sequences.dtype}; "
            f"give {batch} integers, the number of each row's sequence"
        )
    if sample_offset:
        raise ValueError(
            f"sample_offset={sample_offset} with sequences: rows draw by the numbers of their "
            "sequences, not by their places; give one of the two"
        )


def checked_state(
    state: TorchState | None, cell: str, shape: tuple[int, int, int], like: Tensor
) -> tuple[Tensor, ...]:
    """The state as its tensors, h and, for the LSTM, c, each [L*D, B, H].

    Args:
        state: h, or (h, c) for the LSTM, each [L*D, B, H]; None: zeros.
        cell: "lstm", "gru" or "rnn".
        shape: L*D, B and H.
        like: dtype and device of the zeros.

    Raises:
        ValueError: a tensor is missing, is one too many, or has another shape.
    """
    names = ("h", "c") if cell == "lstm" else ("h",)
    if state is None:
        tensors: tuple[Tensor, ...] = (like.new_zeros(shape),) * len(names)
    else:
        tensors = state_tensors(state)
    if len(tensors) != len(names):
        raise ValueError(
            f"state has {len(tensors)} tensors; cell={cell!r} takes {' and '.join(names)}"
        )
    for name, tensor in zip(names, tensors, strict=True):
        if tensor.shape != shape:
            raise ValueError(
                f"state {name} has the shape {list(tensor.shape)}; give "
                f"[layers * directions, batch, hidden] = {list(shape)}"
            )
    return tensors


def split_state(tensors: tuple[Tensor, ...]) -> list[State]:
    """The state of each layer and direction."""
    return [State(*parts) for parts in zip(*(t.unbind(0) for t in tensors), strict=True)]


def join_state(states: list[State]) -> tuple[Tensor, ...]:
    """The inverse of :func:`split_state`."""
    h = torch.stack([state.h for state in states])
    c = [state.c for state in states if state.c is not None]
    return (h, torch.stack(c)) if c else (h,)


def as_torch_state(tensors: tuple[Tensor, ...]) -> TorchState:
    """The state from its tensors, as torch.nn's modules take and return it."""
    h, *c = tensors
    return (h, c[0]) if c else h


def state_tensors(state: TorchState) -> tuple[Tensor, ...]:
    """The inverse of :func:`as_torch_state`."""
    return (state,) if isinstance(state, Tensor) else tuple(state)
