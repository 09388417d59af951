"""One step of the GRU with the reset gate before the product, in two parts around W_hn (r * h).

See :func:`tidegate.train.cells.gru_reset_before_step`. The product of r and z is
"product", that of n "reset_product".
"""

import triton
import triton.language as tl

from tidegate.train.kernels.cuda.pointwise.elements import (
    before,
    is_real,
    keep_old,
    of_operands,
    put_gradient,
    put_operands,
    recurrent,
    share_of_new,
    share_of_old,
    sigmoid,
    tanh,
    times,
)


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
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = at < elements
    b = at // size
    j = at - b * size
    real = is_real(lengths, t, b, ok)
    unit = (b, j, ok)
    strides = (stride_part, stride_gate, stride_row)
    place = gates + b * 3 * size + j

    r = recurrent(product, rows, bias, 0, size, unit, strides, PARTS)
    r = sigmoid(r + tl.load(place, mask=ok, other=0.0).to(r.dtype))
    tl.store(place, r.to(gates.dtype.element_ty), mask=real)
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
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = at < elements
    b = at // size
    j = at - b * size
    real = is_real(lengths, t, b, ok)
    unit = (b, j, ok)
    strides = (stride_part, stride_gate, stride_row)
    place = gates + b * 3 * size + j

    z = recurrent(product, rows, bias, 1, size, unit, strides, PARTS)
    # One gate only: rows of H, parts of B * H.
    n = recurrent(reset_product, reset_rows, reset_bias, 0, size, unit, (elements, 0, size), PARTS)
    z = sigmoid(z + tl.load(place + size, mask=ok, other=0.0).to(z.dtype))
    n = tanh(n + tl.load(place + 2 * size, mask=ok, other=0.0).to(z.dtype))
    dtype = gates.dtype.element_ty
    tl.store(place + size, z.to(dtype), mask=real)
    tl.store(place + 2 * size, n.to(dtype), mask=real)

    h_old = tl.load(h + at, mask=ok, other=0.0)
    h_new = (1.0 - z) * times(n, candidate, at, ok) + z * h_old
    h_new = keep_old(h_new, h_old, zone_hidden, at, ok)
    tl.store(h + at, h_new, mask=real)
    tl.store(states + at, tl.where(real, h_new, 0.0).to(dtype), mask=ok)
    if exposed is not None:
        h_new_exposed = times(h_new, exposed, at, ok)
        tl.store(output + at, tl.where(real, h_new_exposed, 0.0).to(dtype), mask=ok)
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
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = at < elements
    b = at // size
    j = at - b * size
    real = is_real(lengths, t, b, ok)
    unit = (b, j, ok)
    strides = (stride_part, stride_gate, stride_row)
    place = gates + b * 3 * size + j

    dh_after = tl.load(dh + at, mask=ok, other=0.0)
    dh_after = of_operands(dh_after, d_operands, factors, at, elements, ok, PRODUCTS)
    z = tl.load(place + size, mask=ok, other=0.0).to(dh_after.dtype)
    n = tl.load(place + 2 * size, mask=ok, other=0.0).to(dh_after.dtype)
    h_old = before(previous_states, initial_states, lengths, t, b, at, ok, REVERSE)
    h_old = h_old.to(dh_after.dtype)

    dy = tl.load(d_output + at, mask=ok, other=0.0).to(dh_after.dtype)
    dh_all = dh_after + times(dy, exposed, at, ok)
    dh_new = share_of_new(dh_all, zone_hidden, at, ok)
    dn = times(dh_new * (1.0 - z), candidate, at, ok) * (1.0 - n * n)
    dn = tl.where(real, dn, 0.0)
    dz = dh_new * (h_old - times(n, candidate, at, ok)) * z * (1.0 - z)
    dz = tl.where(real, dz, 0.0)
    d_place = d_gates + b * 3 * size + j
    dtype = d_gates.dtype.element_ty
    tl.store(d_place + size, dz.to(dtype), mask=ok)
    tl.store(d_place + 2 * size, dn.to(dtype), mask=ok)
    put_gradient(d_product, rows, dz, 1, unit, strides, PARTS)
    put_gradient(d_reset_product, reset_rows, dn, 0, unit, (elements, 0, size), PARTS)
    dh_before = share_of_old(dh_all, zone_hidden, at, ok) + dh_new * z
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
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = at < elements
    b = at // size
    j = at - b * size
    real = is_real(lengths, t, b, ok)
    unit = (b, j, ok)
    strides = (stride_part, stride_gate, stride_row)

    dh_before = tl.load(dh + at, mask=ok, other=0.0)
    r = tl.load(gates + b * 3 * size + j, mask=ok, other=0.0).to(dh_before.dtype)
    h_old = before(previous_states, initial_states, lengths, t, b, at, ok, REVERSE)
    h_old = h_old.to(dh_before.dtype)
    d_reset = of_operands(dh_before * 0.0, d_operands, factors, at, elements, ok, PRODUCTS)
    dr = tl.where(real, d_reset * h_old * r * (1.0 - r), 0.0)
    tl.store(d_gates + b * 3 * size + j, dr.to(d_gates.dtype.element_ty), mask=ok)
    put_gradient(d_product, rows, dr, 0, unit, strides, PARTS)
    tl.store(dh + at, tl.where(real, dh_before + d_reset * r, dh_before), mask=ok)
