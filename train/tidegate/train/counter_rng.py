"""Counter-based random bits: a draw is a pure function of where it is used.

A conventional generator hands out numbers in the order they are asked for, so
a mask changes with the batch split, the padding and the point of resumption.
Here every element is hashed from (key, sample, time, unit) alone, after Salmon
et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), with the
finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) as the hash.

Dimensions: T time, B batch (samples), U units.
"""

import torch
from torch import Tensor

from tidegate.train.kernels import draw as native
from tidegate.train.kernels.cuda import draw as cuda
from tidegate.train.kernels.draw import Draw

_MULTIPLIER_1 = 0xBF58476D1CE4E5B9
_MULTIPLIER_2 = 0x94D049BB133111EB
_GOLDEN_GAMMA = 0x9E3779B97F4A7C15
_WORD = 0xFFFFFFFFFFFFFFFF
# Bits of a draw; a rate is rounded to a multiple of 2**-24, about 6e-8.
_DRAW_BITS = 24


def derive_key(*parts: int) -> int:
    """Hashes integers, in order, into one 64-bit key."""
    key = 0
    for part in parts:
        key = _mix_int((key + _GOLDEN_GAMMA + (part & _WORD)) & _WORD)
    return key


def drop(
    key: int,
    p: float,
    *,
    times: int,
    samples: int | Tensor,
    units: int,
    sample_offset: int = 0,
    device: torch.device | None = None,
) -> Tensor:
    """Draws which elements to drop; the specification of every draw.

    Args:
        key: from :func:`derive_key`.
        p: probability of True, in [0, 1].
        times: T.
        samples: B, or the number of each sample, int64 [B].
        units: U.
        sample_offset: index of the first of B samples in the whole batch, so that
            a batch's parts draw what the whole would.
        device: where the result lives.

    Returns:
        bool [T, B, U].
    """
    at = _numbered(samples, sample_offset, device)
    return _drop(at, _signed(key), _threshold(p), times, units)


def factors(
    key: int,
    p: float,
    *,
    times: int,
    samples: int | Tensor,
    units: int,
    dropped: float = 0.0,
    kept: float = 1.0,
    sample_offset: int = 0,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Draws what to multiply with: ``dropped`` where :func:`drop` is True, else ``kept``.

    Arguments as for :func:`drop`, and the dtype of the factors.

    Returns:
        [T, B, U].
    """
    at, dtype = _numbered(samples, sample_offset, device), dtype or torch.get_default_dtype()
    what = Draw(_signed(key), _threshold(p), times, units, dropped, kept, dtype)
    if native.supports(at, dtype):
        return native.draw(at, what)
    if cuda.supports(at):
        return cuda.draw(at, what)
    return draw_in_torch(at, what)


def draw_in_torch(samples: Tensor, what: Draw) -> Tensor:
    """The specification of the kernels; see :func:`tidegate.train.kernels.draw.draw`."""
    drops = _drop(samples, what.key, what.threshold, what.times, what.units)
    # Filled where they are: a copy to a device would wait for all that it still computes.
    one, other = (
        torch.full((), value, dtype=what.dtype, device=samples.device)
        for value in (what.dropped, what.kept)
    )
    return torch.where(drops, one, other)


def _drop(samples: Tensor, key: int, threshold: int, times: int, units: int) -> Tensor:
    times_at = torch.arange(times, device=samples.device)
    units_at = torch.arange(units, device=samples.device)
    bits = _of_samples(key, samples, times_at)
    return _below(_mix(bits[:, :, None] + units_at * _signed(_GOLDEN_GAMMA)), threshold)


def _numbered(samples: int | Tensor, sample_offset: int, device: torch.device | None) -> Tensor:
    if isinstance(samples, int):
        return torch.arange(sample_offset, sample_offset + samples, device=device)
    return samples.to(device=device, dtype=torch.int64)


def drop_units(key: int, p: float, *, units: Tensor, samples: Tensor) -> Tensor:
    """Draws whether single units are dropped, as :func:`drop` does at its first time.

    Args:
        key: from :func:`derive_key`.
        p: probability of True, in [0, 1].
        units: which, int64 [B, N]; a unit may be there many times.
        samples: the number of each sample, int64 [B].

    Returns:
        bool [B, N].
    """
    first = torch.zeros(1, dtype=torch.int64, device=samples.device)
    bits = _of_samples(_signed(key), samples, first)
    return _below(_mix(bits[0, :, None] + units * _signed(_GOLDEN_GAMMA)), _threshold(p))


def _of_samples(key: int, samples: Tensor, times: Tensor) -> Tensor:
    """Bits of each time and sample, [T, B]."""
    bits = _mix(samples * _signed(_GOLDEN_GAMMA) + key)
    return _mix(bits + times[:, None] * _signed(_GOLDEN_GAMMA))


def _below(bits: Tensor, threshold: int) -> Tensor:
    return torch.lt(_shift(bits, 64 - _DRAW_BITS), threshold)


def _threshold(p: float) -> int:
    return round(p * (1 << _DRAW_BITS))


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's finalizer; int64 products wrap as unsigned ones do."""
    z = (z ^ _shift(z, 30)) * _signed(_MULTIPLIER_1)
    z = (z ^ _shift(z, 27)) * _signed(_MULTIPLIER_2)
    return z ^ _shift(z, 31)


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's own keeps the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix_int(z: int) -> int:
    z = ((z ^ (z >> 30)) * _MULTIPLIER_1) & _WORD
    z = ((z ^ (z >> 27)) * _MULTIPLIER_2) & _WORD
    return z ^ (z >> 31)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


__all__ = ["derive_key", "draw_in_torch", "drop", "drop_units", "factors"]
