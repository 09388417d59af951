"""One recurrent layer in one direction as a torch operator with a hand-written backward.

Dimensions: T time, B batch, I input size, H hidden, G gates.
"""

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tidegate.train.cells import State, Weights
from tidegate.train.kernels import build
from tidegate.train.masks import LayerMasks

CELLS = {"lstm": 0, "gru": 1, "gru_reset_before": 2, "rnn": 3}
DTYPES = (torch.float32, torch.float64)


class _Arguments(NamedTuple):
    """The operator's arguments, in its order."""

    x: Tensor
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor
    h0: Tensor
    c0: Tensor | None
    lengths: Tensor | None
    input_mask: Tensor | None
    hidden_mask: Tensor | None
    weight_mask: Tensor | None
    candidate: Tensor | None
    memory: Tensor | None
    memory_scale: float
    zone_cell: Tensor | None
    zone_hidden: Tensor | None
    flip_weight: Tensor | None
    flip_rows: Tensor | None
    flip_hidden: Tensor | None
    cell: int
    reverse: bool


def supports(weights: Weights, masks: LayerMasks) -> bool:
    """Whether the operator takes tensors and masks like these, and could be built."""
    like = weights.weight_hh
    if like.device.type != "cpu" or like.dtype not in DTYPES:
        return False
    return not masks.requires_grad and is_ready()


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator] # torch's own
def is_ready() -> bool:
    """Whether the operator is there; builds and registers it at the first call."""
    return _register()


@functools.cache
def _register() -> bool:
    if not build.is_available():
        return False
    torch.library.register_autograd(
        "tidegate::recurrent_layer", _backward, setup_context=_setup_context
    )
    torch.library.register_fake("tidegate::recurrent_layer")(_fake)
    torch.library.register_fake("tidegate::recurrent_layer_backward")(_fake_backward)
    return True


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

    Computes in the dtype of the weights, under autocast too.

    Args:
        cell: a key of ``CELLS``.
        x: [T, B, I].
        lengths: int64 [B], or None when every row has T steps.
        state: before the first step, [B, H].
        weights: of the layer and direction.
        masks: of the layer and direction.
        reverse: whether time runs backwards, from each row's last real step.

    Returns:
        The output [T, B, H], zero in padding, and the state after each row's
        last step.
    """
    like = weights.weight_hh
    arguments = _Arguments(
        x,
        *weights,
        state.h,
        state.c,
        lengths,
        masks.input,
        masks.hidden,
        masks.weight,
        masks.candidate,
        masks.memory,
        masks.memory_scale,
        _factors(masks.zone_cell, like),
        _factors(masks.zone_hidden, like),
        *_flip(masks),
        CELLS[cell],
        reverse,
    )
    plain = (_plain(one, like.dtype) if isinstance(one, Tensor) else one for one in arguments)
    compiled = torch.compiler.is_compiling()
    run = torch.ops.tidegate.recurrent_layer if compiled else _Eager.apply
    output, h, c, *_ = run(*plain)  # type: ignore[no-untyped-call] # torch's own
    return output, State(h, c if state.c is not None else None)


def _plain(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if tensor.is_floating_point() and tensor.dtype != dtype:
        tensor = tensor.to(dtype)
    return tensor if tensor.is_contiguous() else tensor.contiguous()


def _factors(zone: Tensor | float | None, like: Tensor) -> Tensor | None:
    """A rate as one factor for each unit, [H]."""
    if zone is None or isinstance(zone, Tensor):
        return zone
    return like.new_full(like.shape[-1:], zone)


def _flip(masks: LayerMasks) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Factors of W_hh, of its products, and of h where it enters them."""
    if masks.flip is None:
        return None, None, None
    weight, rows, columns = masks.flip
    return weight, rows, columns[None] if masks.hidden is None else columns * masks.hidden


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: ANN401 # torch's own
    result, _, _, *saved = output
    ctx.mark_non_differentiable(*saved)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(
        result, *saved, *(one if isinstance(one, Tensor) else None for one in inputs)
    )
    ctx.constants = tuple(None if isinstance(one, Tensor) else one for one in inputs)


def _backward(
    ctx: Any,  # noqa: ANN401 # torch's own
    d_output: Tensor | None,
    d_h: Tensor | None,
    d_c: Tensor | None,
    *_: None,
) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():
        raise RuntimeError(
            "create_graph=True: the native kernel has no second derivative; set "
            f"{build.SWITCH_VARIABLE}=0 in the environment to train on the readable path, which has"
        )
    result, *saved = ctx.saved_tensors
    inputs = [
        tensor if tensor is not None else constant
        for tensor, constant in zip(saved[4:], ctx.constants, strict=True)
    ]
    c0 = inputs[_Arguments._fields.index("c0")]
    d_output = torch.zeros_like(result) if d_output is None else d_output.contiguous()
    d_x, *d_weights, d_h0, d_c0 = torch.ops.tidegate.recurrent_layer_backward(
        d_output, d_h, None if c0 is None else d_c, ctx.needs_input_grad[0],
        result, *saved[:4], *inputs,
    )  # fmt: skip
    rest = len(_Arguments._fields) - 7
    return (
        d_x if ctx.needs_input_grad[0] else None,
        *d_weights,
        d_h0,
        None if c0 is None else d_c0,
        *(None,) * rest,
    )


class _Eager(torch.autograd.Function):
    """The operator as it is registered, without torch's search of the schema at each call.

    That search costs 0.15 ms, which a small network notices.
    """

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:  # noqa: ANN401 # the operator's arguments
        results: tuple[Tensor, ...] = torch.ops.tidegate.recurrent_layer(*inputs)
        return results

    setup_context = staticmethod(_setup_context)
    backward = staticmethod(_backward)


def _fake(*inputs: Any) -> tuple[Tensor, ...]:  # noqa: ANN401 # the operator's arguments
    arguments = _Arguments(*inputs)
    x, h0 = arguments.x, arguments.h0
    time, batch, _ = x.shape
    rows, size = arguments.weight_hh.shape
    is_lstm = arguments.cell == CELLS["lstm"]
    has_inner = arguments.cell == CELLS["gru"]
    is_apart = arguments.memory is not None and not is_lstm
    return (
        x.new_empty(time, batch, size),
        torch.empty_like(h0),
        x.new_empty(batch if is_lstm else 0, size),
        x.new_empty(time, batch, rows),
        x.new_empty(time if has_inner else 0, batch, size),
        x.new_empty(time if is_apart else 0, batch, size),
        x.new_empty(time if is_lstm else 0, batch, size),
    )


def _fake_backward(
    _d_output: Tensor,
    _d_h: Tensor | None,
    _d_c: Tensor | None,
    needs_dx: bool,
    *rest: Any,  # noqa: ANN401 # the operator's arguments
) -> tuple[Tensor, ...]:
    inputs = _Arguments(*rest[5:])
    return (
        torch.empty_like(inputs.x) if needs_dx else inputs.x.new_empty(0),
        torch.empty_like(inputs.weight_ih),
        torch.empty_like(inputs.weight_hh),
        torch.empty_like(inputs.bias_ih),
        torch.empty_like(inputs.bias_hh),
        torch.empty_like(inputs.h0),
        inputs.x.new_empty(0) if inputs.c0 is None else torch.empty_like(inputs.c0),
    )
