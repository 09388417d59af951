"""The draw of :mod:`tidegate.train.counter_rng`, element by element the same."""

import triton
import triton.language as tl

MULTIPLIER_1 = tl.constexpr(0xBF58476D1CE4E5B9)
MULTIPLIER_2 = tl.constexpr(0x94D049BB133111EB)
GOLDEN_GAMMA = tl.constexpr(0x9E3779B97F4A7C15)
# All but the bits of a draw.
REST = tl.constexpr(64 - 24)


@triton.jit
def mix(z):
    """SplitMix64's finalizer."""
    z = (z ^ (z >> 30)) * MULTIPLIER_1
    z = (z ^ (z >> 27)) * MULTIPLIER_2
    return z ^ (z >> 31)


@triton.jit(do_not_specialize=["key", "threshold"])
def draw(
    factors,  # [T, B, U]
    samples,  # int64 [B]
    key,
    threshold,
    dropped: tl.float64,
    kept: tl.float64,
    batch,
    units,
    blocks,  # programs of one time and sample
    BLOCK: tl.constexpr,
):
    row = (tl.program_id(0) // blocks).to(tl.int64)
    u = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    sample = tl.load(samples + row % batch).to(tl.uint64)
    time = (row // batch).to(tl.uint64)
    bits = mix(sample * GOLDEN_GAMMA + key.to(tl.uint64))
    bits = mix(bits + time * GOLDEN_GAMMA)
    bits = mix(bits + u.to(tl.uint64) * GOLDEN_GAMMA)
    is_dropped = (bits >> REST).to(tl.int64) < threshold
    dtype = factors.dtype.element_ty
    one, other = tl.full((BLOCK,), dropped, dtype), tl.full((BLOCK,), kept, dtype)
    tl.store(factors + row * units + u, tl.where(is_dropped, one, other), mask=u < units)
