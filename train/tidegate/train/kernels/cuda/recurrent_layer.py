"""One recurrent layer in one direction on a CUDA device, with a hand-written backward pass.

What :mod:`tidegate.train.kernels.recurrent_layer` is on the CPU, with every mask
inside; :mod:`tidegate.train.unroll` is the specification of both.

Dimensions: T time, B batch, I input size, H hidden, G gates.
"""

import functools
from typing import Any

import torch
from torch import Tensor

from tidegate.train.cells import State, Weights
from tidegate.train.input_gates import input_gates
from tidegate.train.kernels.build import SWITCH_VARIABLE
from tidegate.train.kernels.cuda.available import is_available
from tidegate.train.kernels.cuda.graphs import GraphCache, Tensors, may_capture
from tidegate.train.kernels.cuda.layer import Inputs, Saved, Upstream, carried_dtype
from tidegate.train.masks import LayerMasks

CELLS = ("lstm", "gru", "gru_reset_before", "rnn")
# A kernel counts the elements of a step in 32 bits.
MOST_ELEMENTS = 2**31 - 1

_graphs = GraphCache()


def supports(weights: Weights, masks: LayerMasks) -> bool:
    """Whether these are on a CUDA device, with masks that are constants, and Triton is there."""
    if weights.weight_hh.device.type != "cuda":
        return False
    return not masks.requires_grad and is_available()


@torch.compiler.disable  # type: ignore[untyped-decorator] # torch leaves it without types
def recurrent_layer(
    cell: str,
    x: Tensor,
    lengths: Tensor | None,
    state: State,
    weights: Weights,
    masks: LayerMasks,
    *,
    reverse: bool,
) -> tuple[Tensor, State]:
    """Runs all steps of one layer and direction, where :func:`supports` says so.

    Computes in autocast's dtype where that is on, else in that of the weights;
    what is carried from step to step has float32 at least.

    Args:
        cell: one of ``CELLS``.
        x: [T, B, I].
        lengths: int64 [B], or None when every row has T steps.
        state: before the first step, [B, H].
        weights: of the layer and direction.
        masks: of the layer and direction.
        reverse: whether time runs backwards, from each row's last real step.

    Returns:
        The output [T, B, H], zero in padding, and the state after each row's
        last step, in the dtype of ``state``.

    Raises:
        ValueError: one step has more elements than a kernel counts.
    """
    dtype = _dtype(weights)
    gates = input_gates(x, weights, masks.input).to(dtype)
    if gates[0].numel() > MOST_ELEMENTS:
        raise ValueError(
            f"a step has {gates[0].numel()} gates, batch * gates * hidden; the most is "
            f"{MOST_ELEMENTS}: give smaller batches"
        )
    inputs = _inputs(cell, gates, lengths, state, weights, masks)
    contiguous = (None if one is None else one.contiguous() for one in inputs)
    output, h, c = _Recurrence.apply(cell, reverse, *contiguous)  # type: ignore[no-untyped-call] # torch's own
    if c is None or state.c is None:
        return output, State(h.to(state.h.dtype))
    return output, State(h.to(state.h.dtype), c.to(state.c.dtype))


def _dtype(weights: Weights) -> torch.dtype:
    device = weights.weight_hh.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return weights.weight_hh.dtype


def _inputs(
    cell: str,
    gates: Tensor,
    lengths: Tensor | None,
    state: State,
    weights: Weights,
    masks: LayerMasks,
) -> Inputs:
    dtype, weight = gates.dtype, weights.weight_hh
    parts = [weight if masks.weight is None else weight * masks.weight]
    if masks.flip is not None:
        parts.append(weight * masks.flip.weight)
    return Inputs(
        gates,
        torch.stack(parts).to(dtype),
        weights.bias_hh.to(carried_dtype(dtype)),
        state.h,
        state.c,
        lengths,
        _factors(masks, weight.shape[1]),
        None if masks.flip is None else masks.flip.rows,
        masks.candidate,
        masks.memory if cell == "lstm" else None,
        None if masks.memory is None else masks.memory * masks.memory_scale,
        _zone(masks.zone_cell, state.h),
        _zone(masks.zone_hidden, state.h),
    )


def _factors(masks: LayerMasks, size: int) -> Tensor | None:
    """What h is multiplied by before each product, [P or P*G, B, H]."""
    if masks.flip is None:
        return masks.hidden
    columns = masks.flip.columns[None]
    hidden = torch.ones_like(columns) if masks.hidden is None else masks.hidden
    return torch.stack((hidden, hidden * columns)).view(-1, columns.shape[1], size)


def _zone(zone: Tensor | float | None, like: Tensor) -> Tensor | None:
    """A rate as one factor for each unit, [1, B, H]."""
    if zone is None or isinstance(zone, Tensor):
        return zone
    return torch.full_like(like, zone, requires_grad=False)[None]


class _Recurrence(torch.autograd.Function):
    """From the input's share of the gates to the output, h and c."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 # torch's own
        cell: str,
        reverse: bool,
        *tensors: Tensor | None,
    ) -> Tensors:
        keeps = any(ctx.needs_input_grad)
        results = _call(_forward, (cell, reverse, keeps), tensors)
        output, h, c, *saved = results
        ctx.call = (cell, reverse)
        ctx.set_materialize_grads(False)
        # The gates are saved as they are after the pass.
        ctx.save_for_backward(output, *saved, *tensors[1:])
        return output, h, c

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401 # torch's own
        d_output: Tensor | None,
        d_h: Tensor | None,
        d_c: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "create_graph=True: the CUDA kernels have no second derivative; set "
                f"{SWITCH_VARIABLE}=0 in the environment to train on the readable path, which has"
            )
        output, gates, states, cells, inner, *inputs = ctx.saved_tensors
        h0, c0 = inputs[2], inputs[3]
        states = output if states is None else states
        upstream = (
            torch.zeros_like(output) if d_output is None else d_output.contiguous(),
            torch.zeros_like(h0) if d_h is None else d_h.contiguous(),
            None if c0 is None else torch.zeros_like(c0) if d_c is None else d_c.contiguous(),
        )
        arguments = (*upstream, states, cells, inner, gates, *inputs)
        d_gates, d_weights, d_bias, d_h0, d_c0 = _call(_backward, ctx.call, arguments)
        rest = len(Inputs._fields) - 5
        return (None, None, d_gates, d_weights, d_bias, d_h0, d_c0, *(None,) * rest)


def _call(function: Any, constants: tuple[Any, ...], tensors: Tensors) -> Tensors:  # noqa: ANN401 # one of those below
    """Calls a pass, in a CUDA graph once its shapes have come several times."""
    first = next(one for one in tensors if one is not None)
    device = first.device
    run = functools.partial(function, *constants)
    on_device = torch.cuda.device(device if device.type == "cuda" else -1)
    with torch.no_grad(), torch.autocast(device.type, enabled=False), on_device:
        if may_capture(device):
            return _graphs.run((function.__name__, constants), run, tensors)
        results: Tensors = run(*tensors)
        return results


def _forward(cell: str, reverse: bool, keeps: bool, *tensors: Any) -> Tensors:  # noqa: ANN401 # Inputs
    output, h, c, saved = _passes(cell).Forward(Inputs(*tensors), reverse=reverse).run()
    if not keeps:
        return output, h, c, None, None, None, None
    states = None if saved.states is output else saved.states
    return output, h, c, saved.gates, states, saved.cells, saved.inner


def _backward(cell: str, reverse: bool, *tensors: Any) -> Tensors:  # noqa: ANN401 # as the caller
    d_output, d_h, d_c, states, cells, inner, *inputs = tensors
    saved = Saved(inputs[0], states, cells, inner)
    upstream = Upstream(d_output, d_h, d_c)
    backward = _passes(cell).Backward(Inputs(*inputs), saved, upstream, reverse=reverse)
    gradients: Tensors = backward.run()
    return gradients


def _passes(cell: str) -> Any:  # noqa: ANN401 # a module
    """The module with a cell's passes; it loads Triton."""
    from tidegate.train.kernels.cuda import gru, gru_reset_before, lstm, rnn

    return {"lstm": lstm, "gru": gru, "gru_reset_before": gru_reset_before, "rnn": rnn}[cell]
