"""The draw of :mod:`tidegate.train.counter_rng` as a torch operator.

Dimensions: T time, B batch (samples), U units.
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from tidegate.train.kernels import build

DTYPES = (torch.float32, torch.float64)


class Draw(NamedTuple):
    """What is drawn for each sample, by whichever path: [T, U] of two factors.

    In the order of the operator's arguments.

    Attributes:
        key: 64 bits, signed.
        threshold: the probability of ``dropped`` in units of 2**-24.
        times: T.
        units: U.
        dropped: the one factor.
        kept: the other.
        dtype: of the factors.
    """

    key: int
    threshold: int
    times: int
    units: int
    dropped: float
    kept: float
    dtype: torch.dtype


def supports(samples: Tensor, dtype: torch.dtype) -> bool:
    """Whether the operator draws for these, and could be built."""
    return samples.device.type == "cpu" and dtype in DTYPES and is_ready()


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator] # torch's own
def is_ready() -> bool:
    """Whether the operator is there; builds and registers it at the first call."""
    return _register()


def draw(samples: Tensor, what: Draw) -> Tensor:
    """Draws [T, B, U], where :func:`supports` says so.

    Args:
        samples: number of each sample, int64 [B], on the CPU.
        what: is drawn for each.
    """
    factors: Tensor = torch.ops.tidegate.draw(samples.contiguous(), *what)
    return factors


@functools.cache
def _register() -> bool:
    if not build.is_available():
        return False
    torch.library.register_fake("tidegate::draw")(_fake)
    return True


def _fake(
    samples: Tensor,
    _key: int,
    _threshold: int,
    times: int,
    units: int,
    _dropped: float,
    _kept: float,
    dtype: torch.dtype,
) -> Tensor:
    return samples.new_empty((times, samples.shape[0], units), dtype=dtype)
