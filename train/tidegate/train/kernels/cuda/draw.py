"""The draw of :mod:`tidegate.train.counter_rng` on a CUDA device.

Dimensions: T time, B batch (samples), U units.
"""

import torch
from torch import Tensor

from tidegate.train.kernels.cuda.available import is_available
from tidegate.train.kernels.draw import Draw

MOST_UNITS_OF_A_PROGRAM = 1024


def supports(samples: Tensor) -> bool:
    """Whether these are on a CUDA device, and Triton is there."""
    return samples.device.type == "cuda" and is_available()


def draw(samples: Tensor, what: Draw) -> Tensor:
    """Draws [T, B, U] where the samples are.

    Args:
        samples: number of each sample, int64 [B].
        what: is drawn for each.
    """
    import triton

    from tidegate.train.kernels.cuda.pointwise import draw as kernels

    key, threshold, times, units, dropped, kept, dtype = what
    batch = samples.shape[0]
    factors = torch.empty((times, batch, units), dtype=dtype, device=samples.device)
    block = min(MOST_UNITS_OF_A_PROGRAM, triton.next_power_of_2(units))
    blocks = triton.cdiv(units, block)
    device = samples.device
    with torch.cuda.device(device if device.type == "cuda" else -1):
        kernels.draw[(times * batch * blocks,)](
            factors,
            samples.contiguous(),
            key,
            threshold,
            dropped,
            kept,
            batch,
            units,
            blocks,
            BLOCK=block,
        )
    return factors
