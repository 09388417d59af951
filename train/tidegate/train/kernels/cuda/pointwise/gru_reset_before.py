"""One step of the GRU with the reset gate before the product, in two parts around W_hn (r * h).

See :func:`tidegate.train.cells.gru_reset_before_step`. The product of r and z is
"product", that of n "reset_product".
"""

import triton
import triton.language as tl

from tidegate.train.kernels.cuda.pointwise.elements import (
    before,
    carry,
    expose,
    load,
    locate,
    of_operands,
    put_gradient,
    put_operands,
    recurrent,
    sigmoid,
    store,
    tanh,
    times,
)
from tidegate.train.kernels.cuda.pointwise.gru import interpolate, interpolate_backward


@triton.jit(do_not_specialize=["t"])
def reset(
    gates,  # [B, 3H]: W_ih x + b_ih; after it r in the first part
    product,
    rows,
    bias,
    h,
    operands,  # of W_hn: r * h
    factors,
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
    r = sigmoid(r + load(gates, gate, ok, r.dtype))
    store(gates, gate, r, real)
    product_h = r * tl.load(h + at, mask=ok, other=0.0)
    # In padding too: the product reads whole rows.
    put_operands(operands, factors, product_h, at, elements, ok, PRODUCTS)


@triton.jit(do_not_specialize=["t"])
def forward(
    gates,  # [B, 3H]: r, and of z and n W_ih x + b_ih; after the step r, z, n
    product,
    rows,
    reset_product,
    reset_rows,
    bias,
    reset_bias,
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

    z = recurrent(product, rows, bias, 1, size, unit, strides, PARTS)
    # One gate only: rows of H, parts of B * H.
    n = recurrent(reset_product, reset_rows, reset_bias, 0, size, unit, (elements, 0, size), PARTS)
    z = sigmoid(z + load(gates, gate + size, ok, z.dtype))
    n = tanh(n + load(gates, gate + 2 * size, ok, z.dtype))
    store(gates, gate + size, z, real)
    store(gates, gate + 2 * size, n, real)

    h_new = interpolate(z, n, h, candidate, zone_hidden, at, ok)
    carry(h, states, h_new, at, ok, real)
    expose(output, h_new, exposed, at, ok, real)
    put_operands(operands, factors, h_new, at, elements, real, PRODUCTS)


@triton.jit(do_not_specialize=["t"])
def backward(
    gates,  # [B, 3H]: r, z, n
    previous_states,
    initial_states,
    d_output,
    dh,  # [B, H], carried on in place
    d_operands,  # [N, B, H], of the step after
    d_gates,
    rows,
    reset_rows,
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
    d_reset_product,
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
    z = load(gates, gate + size, ok, dtype)
    n = load(gates, gate + 2 * size, ok, dtype)
    h_old = before(previous_states, initial_states, lengths, t, unit, at, dtype, REVERSE)

    dh_all = dh_after + times(load(d_output, at, ok, dtype), exposed, at, ok)
    dz, dn, dh_before = interpolate_backward(
        z, n, h_old, dh_all, candidate, zone_hidden, at, ok, real
    )
    store(d_gates, gate + size, dz, ok)
    store(d_gates, gate + 2 * size, dn, ok)
    put_gradient(d_product, rows, dz, 1, unit, strides, PARTS)
    put_gradient(d_reset_product, reset_rows, dn, 0, unit, (elements, 0, size), PARTS)
    tl.store(dh + at, tl.where(real, dh_before, dh_after), mask=ok)


@triton.jit(do_not_specialize=["t"])
def reset_backward(
    gates,  # [B, 3H]: r, z, n
    previous_states,
    initial_states,
    dh,  # [B, H], carried on in place
    d_operands,  # of W_hn
    d_gates,
    rows,
    factors,
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

    dh_before = tl.load(dh + at, mask=ok, other=0.0)
    dtype = dh_before.dtype
    r = load(gates, gate, ok, dtype)
    h_old = before(previous_states, initial_states, lengths, t, unit, at, dtype, REVERSE)
    d_reset = of_operands(dh_before * 0.0, d_operands, factors, at, elements, ok, PRODUCTS)
    dr = tl.where(real, d_reset * h_old * r * (1.0 - r), 0.0)
    store(d_gates, gate, dr, ok)
    put_gradient(d_product, rows, dr, 0, unit, strides, PARTS)
    tl.store(dh + at, tl.where(real, dh_before + d_reset * r, dh_before), mask=ok)
