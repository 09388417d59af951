"""One step of the GRU, reset gate after the product; see :func:`tidegate.train.cells.gru_step`."""

import triton
import triton.language as tl

from tidegate.train.kernels.cuda.pointwise.elements import (
    before,
    carry,
    expose,
    keep_old,
    load,
    locate,
    of_operands,
    put_gradient,
    put_operands,
    recurrent,
    share_of_new,
    share_of_old,
    sigmoid,
    store,
    tanh,
    times,
)


@triton.jit
def interpolate(z, n, h, candidate, zone_hidden, at, ok):
    """The new h, between n and the old one."""
    h_old = tl.load(h + at, mask=ok, other=0.0)
    h_new = (1.0 - z) * times(n, candidate, at, ok) + z * h_old
    return keep_old(h_new, h_old, zone_hidden, at, ok)


@triton.jit
def interpolate_backward(z, n, h_old, dh_all, candidate, zone_hidden, at, ok, real):
    """The gradients of what z and n are functions of, and of the old h."""
    dh_new = share_of_new(dh_all, zone_hidden, at, ok)
    dz = dh_new * (h_old - times(n, candidate, at, ok)) * z * (1.0 - z)
    dn = times(dh_new * (1.0 - z), candidate, at, ok) * (1.0 - n * n)
    dh_old = share_of_old(dh_all, zone_hidden, at, ok) + dh_new * z
    return tl.where(real, dz, 0.0), tl.where(real, dn, 0.0), dh_old


@triton.jit(do_not_specialize=["t"])
def forward(
    gates,  # [B, 3H]: W_ih x + b_ih; after the step r, z, n
    inner,  # [B, H]: W_hn h + b_hn
    product,
    rows,
    bias,
    h,  # [B, H], carried on in place
    states,
    output,  # [B, H], as the layer above reads it
    operands,
    factors,
    candidate,
    exposed,
    zone_hidden,
    lengths,
    t,
    elements,
    size,
    stride_part,
    stride_gate,
    stride_row,
    PARTS: tl.constexpr,
    PRODUCTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    at, unit, real = locate(elements, size, lengths, t, BLOCK)
    b, j, ok = unit
    strides = (stride_part, stride_gate, stride_row)
    gate = b * 3 * size + j

    r = recurrent(product, rows, bias, 0, size, unit, strides, PARTS)
    z = recurrent(product, rows, bias, 1, size, unit, strides, PARTS)
    m = recurrent(product, rows, bias, 2, size, unit, strides, PARTS)
    r = sigmoid(r + load(gates, gate, ok, r.dtype))
    z = sigmoid(z + load(gates, gate + size, ok, r.dtype))
    n = tanh(r * m + load(gates, gate + 2 * size, ok, r.dtype))
    store(gates, gate, r, real)
    store(gates, gate + size, z, real)
    store(gates, gate + 2 * size, n, real)
    store(inner, at, m, ok)

    h_new = interpolate(z, n, h, candidate, zone_hidden, at, ok)
    carry(h, states, h_new, at, ok, real)
    expose(output, h_new, exposed, at, ok, real)
    put_operands(operands, factors, h_new, at, elements, real, PRODUCTS)


@triton.jit(do_not_specialize=["t"])
def backward(
    gates,  # [B, 3H]: r, z, n
    inner,
    previous_states,
    initial_states,
    d_output,
    dh,  # [B, H], carried on in place
    d_operands,  # [N, B, H], of the step after
    d_gates,
    rows,
    factors,
    candidate,
    exposed,
    zone_hidden,
    lengths,
    t,
    elements,
    size,
    stride_part,
    stride_gate,
    stride_row,
    d_product,
    PARTS: tl.constexpr,
    PRODUCTS: tl.constexpr,
    REVERSE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    at, unit, real = locate(elements, size, lengths, t, BLOCK)
    b, j, ok = unit
    strides = (stride_part, stride_gate, stride_row)
    gate = b * 3 * size + j

    dh_after = tl.load(dh + at, mask=ok, other=0.0)
    dh_after = of_operands(dh_after, d_operands, factors, at, elements, ok, PRODUCTS)
    dtype = dh_after.dtype
    r = load(gates, gate, ok, dtype)
    z = load(gates, gate + size, ok, dtype)
    n = load(gates, gate + 2 * size, ok, dtype)
    m = load(inner, at, ok, dtype)
    h_old = before(previous_states, initial_states, lengths, t, unit, at, dtype, REVERSE)

    dh_all = dh_after + times(load(d_output, at, ok, dtype), exposed, at, ok)
    dz, dn, dh_before = interpolate_backward(
        z, n, h_old, dh_all, candidate, zone_hidden, at, ok, real
    )
    dr = tl.where(real, dn * m * r * (1.0 - r), 0.0)
    store(d_gates, gate, dr, ok)
    store(d_gates, gate + size, dz, ok)
    store(d_gates, gate + 2 * size, dn, ok)
    put_gradient(d_product, rows, dr, 0, unit, strides, PARTS)
    put_gradient(d_product, rows, dz, 1, unit, strides, PARTS)
    put_gradient(d_product, rows, dn * r, 2, unit, strides, PARTS)
    tl.store(dh + at, tl.where(real, dh_before, dh_after), mask=ok)
