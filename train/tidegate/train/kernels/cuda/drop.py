"""The draw of :mod:`tidegate.train.counter_rng` on a CUDA device.

Dimensions: T time, B batch (samples), U units.
"""

import torch
from torch import Tensor

MOST_UNITS_OF_A_PROGRAM = 1024


def drop(samples: Tensor, key: int, threshold: int, times: int, units: int) -> Tensor:
    """Draws bool [T, B, U] where the samples are.

    Args:
        samples: number of each sample, int64 [B].
        key: 64 bits, signed.
        threshold: the probability of True in units of 2**-24.
        times: T.
        units: U.
    """
    import triton

    from tidegate.train.kernels.cuda.pointwise import drop as kernels

    batch = samples.shape[0]
    dropped = torch.empty((times, batch, units), dtype=torch.bool, device=samples.device)
    block = min(MOST_UNITS_OF_A_PROGRAM, triton.next_power_of_2(units))
    blocks = triton.cdiv(units, block)
    device = samples.device
    with torch.cuda.device(device if device.type == "cuda" else -1):
        kernels.drop[(times * batch * blocks,)](
            dropped.view(torch.uint8),
            samples.contiguous(),
            key,
            threshold,
            batch,
            units,
            blocks,
            BLOCK=block,
        )
    return dropped
