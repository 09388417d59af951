"""One step of the LSTM; see :func:`tidegate.train.cells.lstm_step`."""

import triton
import triton.language as tl

from tidegate.train.kernels.cuda.pointwise.elements import (
    before,
    carry,
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


@triton.jit(do_not_specialize=["t"])
def forward(
    gates,  # [B, 4H]: W_ih x + b_ih; after the step i, f, g, o
    product,
    rows,
    bias,
    h,  # [B, H], carried on in place
    c,
    states,  # [B, H], as the layer above reads it
    cells,
    operands,
    factors,
    candidate,
    memory,
    exposed,
    zone_cell,
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
    gate = b * 4 * size + j

    i = recurrent(product, rows, bias, 0, size, unit, strides, PARTS)
    f = recurrent(product, rows, bias, 1, size, unit, strides, PARTS)
    g = recurrent(product, rows, bias, 2, size, unit, strides, PARTS)
    o = recurrent(product, rows, bias, 3, size, unit, strides, PARTS)
    i = sigmoid(i + load(gates, gate, ok, i.dtype))
    f = sigmoid(f + load(gates, gate + size, ok, i.dtype))
    g = tanh(g + load(gates, gate + 2 * size, ok, i.dtype))
    o = sigmoid(o + load(gates, gate + 3 * size, ok, i.dtype))
    store(gates, gate, i, real)
    store(gates, gate + size, f, real)
    store(gates, gate + 2 * size, g, real)
    store(gates, gate + 3 * size, o, real)

    h_old = tl.load(h + at, mask=ok, other=0.0)
    c_old = tl.load(c + at, mask=ok, other=0.0)
    c_new = times(f * c_old + i * times(g, candidate, at, ok), memory, at, ok)
    h_new = times(o * tanh(c_new), exposed, at, ok)
    c_new = keep_old(c_new, c_old, zone_cell, at, ok)
    h_new = keep_old(h_new, h_old, zone_hidden, at, ok)
    carry(c, cells, c_new, at, ok, real)
    carry(h, states, h_new, at, ok, real)
    put_operands(operands, factors, h_new, at, elements, real, PRODUCTS)


@triton.jit(do_not_specialize=["t"])
def backward(
    gates,  # [B, 4H]: i, f, g, o
    previous_cells,
    initial_cells,
    d_output,
    dh,  # [B, H], carried on in place
    dc,
    d_operands,  # [N, B, H], of the step after
    d_gates,
    rows,
    factors,
    candidate,
    memory,
    exposed,
    zone_cell,
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
    gate = b * 4 * size + j

    dh_after = tl.load(dh + at, mask=ok, other=0.0)
    dh_after = of_operands(dh_after, d_operands, factors, at, elements, ok, PRODUCTS)
    dc_after = tl.load(dc + at, mask=ok, other=0.0)
    dtype = dh_after.dtype
    i = load(gates, gate, ok, dtype)
    f = load(gates, gate + size, ok, dtype)
    g = load(gates, gate + 2 * size, ok, dtype)
    o = load(gates, gate + 3 * size, ok, dtype)
    c_old = before(previous_cells, initial_cells, lengths, t, unit, at, dtype, REVERSE)
    c_new = times(f * c_old + i * times(g, candidate, at, ok), memory, at, ok)
    tanh_c = tanh(c_new)

    dh_all = dh_after + load(d_output, at, ok, dtype)
    dh_new = times(share_of_new(dh_all, zone_hidden, at, ok), exposed, at, ok)
    dc_new = dh_new * o * (1.0 - tanh_c * tanh_c) + share_of_new(dc_after, zone_cell, at, ok)
    dc_new = times(dc_new, memory, at, ok)
    di = tl.where(real, dc_new * times(g, candidate, at, ok) * i * (1.0 - i), 0.0)
    df = tl.where(real, dc_new * c_old * f * (1.0 - f), 0.0)
    dg = tl.where(real, times(dc_new * i, candidate, at, ok) * (1.0 - g * g), 0.0)
    do = tl.where(real, dh_new * tanh_c * o * (1.0 - o), 0.0)
    store(d_gates, gate, di, ok)
    store(d_gates, gate + size, df, ok)
    store(d_gates, gate + 2 * size, dg, ok)
    store(d_gates, gate + 3 * size, do, ok)
    # Else it is d_gates itself.
    if d_product is not None:
        put_gradient(d_product, rows, di, 0, unit, strides, PARTS)
        put_gradient(d_product, rows, df, 1, unit, strides, PARTS)
        put_gradient(d_product, rows, dg, 2, unit, strides, PARTS)
        put_gradient(d_product, rows, do, 3, unit, strides, PARTS)
    dc_before = share_of_old(dc_after, zone_cell, at, ok) + dc_new * f
    dh_before = share_of_old(dh_all, zone_hidden, at, ok)
    tl.store(dc + at, tl.where(real, dc_before, dc_after), mask=ok)
    tl.store(dh + at, tl.where(real, dh_before, dh_after), mask=ok)
