"""What the kernels of all cells share.

Everything is computed in the dtype of the carried state, float32 or float64,
whatever the dtype of the gates.
"""

import triton
import triton.language as tl


@triton.jit
def sigmoid(x):
    # Never the exponential of a positive number, which may be too large.
    e = tl.exp(-tl.abs(x))
    return tl.where(x < 0, e, 1.0) / (1.0 + e)


@triton.jit
def tanh(x):
    e = tl.exp(-2.0 * tl.abs(x))
    value = (1.0 - e) / (1.0 + e)
    return tl.where(x < 0, -value, value)


@triton.jit
def is_real(lengths, t, b, ok):
    """Whether step t of row b is no padding."""
    if lengths is not None:
        ok = ok & (t < tl.load(lengths + b, mask=ok, other=0))
    return ok


@triton.jit
def times(value, factors, at, ok):
    """Multiplies by a mask, where there is one."""
    if factors is not None:
        value = value * tl.load(factors + at, mask=ok, other=0.0).to(value.dtype)
    return value


@triton.jit
def keep_old(new, old, zone, at, ok):
    """Zoneout's mixture."""
    if zone is not None:
        share = tl.load(zone + at, mask=ok, other=0.0).to(new.dtype)
        new = share * old + (1.0 - share) * new
    return new


@triton.jit
def share_of_new(gradient, zone, at, ok):
    """The part of a gradient that goes through the new value."""
    if zone is not None:
        gradient = gradient * (1.0 - tl.load(zone + at, mask=ok, other=0.0).to(gradient.dtype))
    return gradient


@triton.jit
def share_of_old(gradient, zone, at, ok):
    """The part of a gradient that goes past the new value."""
    if zone is not None:
        return gradient * tl.load(zone + at, mask=ok, other=0.0).to(gradient.dtype)
    return gradient * 0.0


@triton.jit
def before(previous, initial, lengths, t, b, at, ok, REVERSE: tl.constexpr):
    """What step t began with: backwards in time, a short row's first step is its last."""
    value = tl.load(previous + at, mask=ok, other=0.0)
    if REVERSE and lengths is not None:
        is_first = t + 1 >= tl.load(lengths + b, mask=ok, other=0)
        value = tl.where(is_first, tl.load(initial + at, mask=ok, other=0.0), value)
    return value


@triton.jit
def recurrent(product, rows, bias, gate, size, unit, strides, PARTS: tl.constexpr):
    """W_hh h + b_hh of one gate; the second part of it has a sign for each row and unit."""
    b, j, ok = unit
    stride_part, stride_gate, stride_row = strides
    at = gate * stride_gate + b * stride_row + j
    value = tl.load(bias + gate * size + j, mask=ok, other=0.0)
    value += tl.load(product + at, mask=ok, other=0.0).to(value.dtype)
    if PARTS == 2:
        second = tl.load(product + stride_part + at, mask=ok, other=0.0).to(value.dtype)
        value += second * tl.load(rows + at, mask=ok, other=0.0).to(value.dtype)
    return value


@triton.jit
def put_gradient(gradient, rows, value, gate, unit, strides, PARTS: tl.constexpr):
    """Stores the gradient of what :func:`recurrent` gave, part by part."""
    b, j, ok = unit
    stride_part, stride_gate, stride_row = strides
    at = gate * stride_gate + b * stride_row + j
    tl.store(gradient + at, value.to(gradient.dtype.element_ty), mask=ok)
    if PARTS == 2:
        second = value * tl.load(rows + at, mask=ok, other=0.0).to(value.dtype)
        tl.store(gradient + stride_part + at, second.to(gradient.dtype.element_ty), mask=ok)


@triton.jit
def put_operands(operands, factors, h, at, elements, real, PRODUCTS: tl.constexpr):
    """Stores h as each product of the next step reads it: times its mask."""
    for product in tl.static_range(PRODUCTS):
        place = at + product * elements
        masked = times(h, factors, place, real)
        tl.store(operands + place, masked.to(operands.dtype.element_ty), mask=real)


@triton.jit
def of_operands(gradient, d_operands, factors, at, elements, ok, PRODUCTS: tl.constexpr):
    """Adds the gradients of what :func:`put_operands` stored."""
    for product in tl.static_range(PRODUCTS):
        place = at + product * elements
        share = tl.load(d_operands + place, mask=ok, other=0.0).to(gradient.dtype)
        gradient += times(share, factors, place, ok)
    return gradient
