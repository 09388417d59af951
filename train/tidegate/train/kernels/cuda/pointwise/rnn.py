"""One step of the simple RNN; see :func:`tidegate.train.cells.rnn_step`."""

import triton
import triton.language as tl

from tidegate.train.kernels.cuda.pointwise.elements import (
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
    store,
    tanh,
    times,
)


@triton.jit(do_not_specialize=["t"])
def forward(
    gates,  # [B, H]: W_ih x + b_ih; after the step its tanh
    product,
    rows,
    bias,
    h,  # [B, H], carried on in place
    states,
    output,  # [B, H], as the layer above reads it
    operands,
    factors,
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
    _, _, ok = unit
    strides = (stride_part, stride_gate, stride_row)

    a = recurrent(product, rows, bias, 0, size, unit, strides, PARTS)
    a = tanh(a + load(gates, at, ok, a.dtype))
    store(gates, at, a, real)
    h_new = keep_old(a, tl.load(h + at, mask=ok, other=0.0), zone_hidden, at, ok)
    carry(h, states, h_new, at, ok, real)
    expose(output, h_new, exposed, at, ok, real)
    put_operands(operands, factors, h_new, at, elements, real, PRODUCTS)


@triton.jit(do_not_specialize=["t"])
def backward(
    gates,  # [B, H]: tanh
    d_output,
    dh,  # [B, H], carried on in place
    d_operands,  # [N, B, H], of the step after
    d_gates,
    rows,
    factors,
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
    BLOCK: tl.constexpr,
):
    at, unit, real = locate(elements, size, lengths, t, BLOCK)
    _, _, ok = unit
    strides = (stride_part, stride_gate, stride_row)

    dh_after = tl.load(dh + at, mask=ok, other=0.0)
    dh_after = of_operands(dh_after, d_operands, factors, at, elements, ok, PRODUCTS)
    a = load(gates, at, ok, dh_after.dtype)
    dh_all = dh_after + times(load(d_output, at, ok, dh_after.dtype), exposed, at, ok)
    da = tl.where(real, share_of_new(dh_all, zone_hidden, at, ok) * (1.0 - a * a), 0.0)
    store(d_gates, at, da, ok)
    if d_product is not None:
        put_gradient(d_product, rows, da, 0, unit, strides, PARTS)
    dh_before = share_of_old(dh_all, zone_hidden, at, ok)
    tl.store(dh + at, tl.where(real, dh_before, dh_after), mask=ok)
