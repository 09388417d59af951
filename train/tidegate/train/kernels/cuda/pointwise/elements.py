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
def locate(elements, size, lengths, t, BLOCK: tl.constexpr):
    """This program's elements of [B, H].

    Gives their places in it; their rows, units, and whether they are within it;
    and whether step t of their rows is no padding either.
    """
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = at < elements
    b = at // size
    j = at - b * size
    real = ok
    if lengths is not None:
        real = ok & (t < tl.load(lengths + b, mask=ok, other=0))
    return at, (b, j, ok), real


@triton.jit
def load(values, at, ok, dtype: tl.constexpr):
    """Loads elements in the dtype of the carried state."""
    return tl.load(values + at, mask=ok, other=0.0).to(dtype)


@triton.jit
def store(values, at, value, ok):
    """Stores elements in the dtype of the buffer."""
    tl.store(values + at, value.to(values.dtype.element_ty), mask=ok)


@triton.jit
def times(value, factors, at, ok):
    """Multiplies by a mask, where there is one."""
    if factors is not None:
        value = value * load(factors, at, ok, value.dtype)
    return value


@triton.jit
def keep_old(new, old, zone, at, ok):
    """Zoneout's mixture."""
    if zone is not None:
        share = load(zone, at, ok, new.dtype)
        new = share * old + (1.0 - share) * new
    return new


@triton.jit
def share_of_new(gradient, zone, at, ok):
    """The part of a gradient that goes through the new value."""
    if zone is not None:
        gradient = gradient * (1.0 - load(zone, at, ok, gradient.dtype))
    return gradient


@triton.jit
def share_of_old(gradient, zone, at, ok):
    """The part of a gradient that goes past the new value."""
    if zone is not None:
        return gradient * load(zone, at, ok, gradient.dtype)
    return gradient * 0.0


@triton.jit
def carry(carried, history, value, at, ok, real):
    """Stores what the next step begins with: not in padding, where the history is zero."""
    tl.store(carried + at, value, mask=real)
    store(history, at, tl.where(real, value, 0.0), ok)


@triton.jit
def expose(output, h, exposed, at, ok, real):
    """Stores h as the layer above reads it, where that is not as it is carried."""
    if exposed is not None:
        store(output, at, tl.where(real, times(h, exposed, at, ok), 0.0), ok)


@triton.jit
def before(previous, initial, lengths, t, unit, at, dtype: tl.constexpr, REVERSE: tl.constexpr):
    """What step t began with: backwards in time, a short row's first step is its last."""
    b, _, ok = unit
    value = tl.load(previous + at, mask=ok, other=0.0)
    if REVERSE and lengths is not None:
        is_first = t + 1 >= tl.load(lengths + b, mask=ok, other=0)
        value = tl.where(is_first, tl.load(initial + at, mask=ok, other=0.0), value)
    return value.to(dtype)


@triton.jit
def recurrent(product, rows, bias, gate, size, unit, strides, PARTS: tl.constexpr):
    """W_hh h + b_hh of one gate; the second part of it has a sign for each row and unit."""
    b, j, ok = unit
    stride_part, stride_gate, stride_row = strides
    at = gate * stride_gate + b * stride_row + j
    value = tl.load(bias + gate * size + j, mask=ok, other=0.0)
    value += load(product, at, ok, value.dtype)
    if PARTS == 2:
        value += load(product + stride_part, at, ok, value.dtype) * load(rows, at, ok, value.dtype)
    return value


@triton.jit
def put_gradient(gradient, rows, value, gate, unit, strides, PARTS: tl.constexpr):
    """Stores the gradient of what :func:`recurrent` gave, part by part."""
    b, j, ok = unit
    stride_part, stride_gate, stride_row = strides
    at = gate * stride_gate + b * stride_row + j
    store(gradient, at, value, ok)
    if PARTS == 2:
        store(gradient + stride_part, at, value * load(rows, at, ok, value.dtype), ok)


@triton.jit
def put_operands(operands, factors, h, at, elements, real, PRODUCTS: tl.constexpr):
    """Stores h as each product of the next step reads it: times its mask."""
    for product in tl.static_range(PRODUCTS):
        place = at + product * elements
        store(operands, place, times(h, factors, place, real), real)


@triton.jit
def of_operands(gradient, d_operands, factors, at, elements, ok, PRODUCTS: tl.constexpr):
    """Adds the gradients of what :func:`put_operands` stored."""
    for product in tl.static_range(PRODUCTS):
        place = at + product * elements
        gradient += times(load(d_operands, place, ok, gradient.dtype), factors, place, ok)
    return gradient
