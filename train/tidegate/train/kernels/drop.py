"""The draw of :mod:`tidegate.train.counter_rng` as a torch operator.

Dimensions: T time, B batch (samples), U units.
"""

import functools

import torch
from torch import Tensor

from tidegate.train.kernels import build


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator] # torch's own
def is_ready() -> bool:
    """Whether the operator is there; builds and registers it at the first call."""
    return _register()


def drop(samples: Tensor, key: int, threshold: int, times: int, units: int) -> Tensor:
    """Draws bool [T, B, U], where :func:`is_ready` says so.

    Args:
        samples: number of each sample, int64 [B], on the CPU.
        key: 64 bits, signed.
        threshold: the probability of True in units of 2**-24.
        times: T.
        units: U.
    """
    dropped: Tensor = torch.ops.tidegate.drop(samples.contiguous(), key, threshold, times, units)
    return dropped


@functools.cache
def _register() -> bool:
    if not build.is_available():
        return False
    torch.library.register_fake("tidegate::drop")(_fake)
    return True


def _fake(samples: Tensor, key: int, threshold: int, times: int, units: int) -> Tensor:  # noqa: ARG001 # the operator's arguments
    return samples.new_empty((times, samples.shape[0], units), dtype=torch.bool)
