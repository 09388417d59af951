"""Torch's own kernels, for layers without a mask between their steps.

Dimensions: T time, B batch, I input size, H hidden, L layers, D directions.
Everything here is time-major.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from tidegate.train.recurrent_inputs import as_torch_state

Kernel = Callable[..., tuple[Tensor, ...]]


def torch_kernel(
    kernel: Kernel,
    x: Tensor,
    lengths: Tensor | None,
    states: tuple[Tensor, ...],
    weights: Sequence[Tensor],
    *,
    num_layers: int = 1,
    bidirectional: bool = False,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Runs one of torch's kernels, on packed rows where they are ragged.

    Args:
        kernel: such as ``torch.lstm``.
        x: [T, B, I].
        lengths: int64 [B], or None when every row has T steps.
        states: h and, for the LSTM, c, each [L*D, B, H].
        weights: the four of each layer and direction, as torch.nn orders them.
        num_layers: L.
        bidirectional: whether there is a second direction.

    Returns:
        The output [T, B, D*H], zero in padding, and the states after each row's
        last step.
    """
    flags = {
        "has_biases": True,
        "num_layers": num_layers,
        "dropout": 0.0,
        "train": torch.is_grad_enabled(),
        "bidirectional": bidirectional,
    }
    with _quiet_cudnn(x.device):
        if lengths is None:
            hx = as_torch_state(states)
            output, *new = kernel(x, hx, list(weights), **flags, batch_first=False)
            return output, tuple(new)
        packed = pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
        hx = as_torch_state(tuple(tensor[:, packed.sorted_indices] for tensor in states))
        data, *new = kernel(packed.data, packed.batch_sizes, hx, list(weights), **flags)
    rows = packed.sorted_indices, packed.unsorted_indices
    whole = PackedSequence(data, packed.batch_sizes, *rows)
    output, _ = pad_packed_sequence(whole, total_length=x.shape[0])
    return output, tuple(tensor[:, packed.unsorted_indices] for tensor in new)


def _quiet_cudnn(device: torch.device) -> AbstractContextManager[None]:
    return _without_copy_warning() if device.type == "cuda" else nullcontext()


@contextmanager
def _without_copy_warning() -> Iterator[None]:
    """Keeps cuDNN from saying that it copies the weights, as it must where they are masked."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "RNN module weights are not part of single", UserWarning)
        yield
