"""The CUDA kernels against the readable path: each kernel's own code, run by Triton's interpreter.

``test_cuda_device.py`` runs them on a device, and replaces this where there is one.
"""

import os
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from support.layers import assert_same, problem, run, run_readable
from support.recurrent_cases import COMBINATIONS, FLAVOURS, METHODS, Case, methods_for
from tidegate.train import counter_rng
from tidegate.train.kernels.cuda import recurrent_layer as layer_module
from tidegate.train.kernels.cuda.draw import draw
from tidegate.train.kernels.cuda.graphs import Function, GraphCache, Tensors
from tidegate.train.kernels.cuda.recurrent_layer import recurrent_layer, supports
from tidegate.train.kernels.draw import Draw
from tidegate.train.unroll import unroll

if torch.cuda.is_available():
    pytest.skip("the kernels run on the device", allow_module_level=True)
# Read where the kernels are decorated, which the first call of a test does.
os.environ["TRITON_INTERPRET"] = "1"
pytest.importorskip("triton", reason="Triton is for Linux on x86-64")

# Every branch of every kernel.
BRANCHES = (
    "zaremba",
    "variational-untied",
    "zoneout",
    "zaremba+semeniuta+rnndrop",
    "rnndrop+weight_drop-per-example",
    "variational+weight_drop-per-example",
)
PRECISION = {torch.float64: 1e-10, torch.float32: 1e-5}


@pytest.mark.parametrize("dtype", PRECISION, ids=str)
@pytest.mark.parametrize(("case", "method"), methods_for(FLAVOURS, BRANCHES), ids=str)
def test_outputs_and_gradients_are_those_of_the_readable_path(
    case: Case, method: str, dtype: torch.dtype
) -> None:
    # One precision forwards on full rows, the other backwards on ragged ones.
    flag = dtype == torch.float64
    one = problem(case, method, ragged=flag, reverse=flag, dtype=dtype, sizes=(4, 3, 2, 5))

    outputs, gradients = run(one, recurrent_layer)

    expected_outputs, expected_gradients = run_readable(one)
    assert_same(outputs, expected_outputs, PRECISION[dtype])
    assert_same(gradients, expected_gradients, PRECISION[dtype])


@pytest.mark.slow
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize(("case", "method"), methods_for(FLAVOURS, METHODS | COMBINATIONS), ids=str)
def test_every_method_is_that_of_the_readable_path(
    case: Case, method: str, ragged: bool, reverse: bool
) -> None:
    one = problem(case, method, ragged=ragged, reverse=reverse)

    outputs, gradients = run(one, recurrent_layer)

    expected_outputs, expected_gradients = run_readable(one)
    assert_same(outputs, expected_outputs, 1e-10)
    assert_same(gradients, expected_gradients, 1e-10)


@pytest.mark.parametrize("case", FLAVOURS, ids=lambda case: case.flavour)
def test_a_step_may_have_more_elements_than_a_program(case: Case) -> None:
    one = problem(case, "variational-untied", sizes=(2, 7, 3, 41), ragged=True)

    outputs, gradients = run(one, recurrent_layer)

    expected_outputs, expected_gradients = run_readable(one)
    assert_same(outputs, expected_outputs, 1e-10)
    assert_same(gradients, expected_gradients, 1e-10)


@pytest.mark.parametrize("case", FLAVOURS, ids=lambda case: case.flavour)
def test_autocast_sets_the_precision_of_products_and_not_of_the_memory(case: Case) -> None:
    one = problem(case, "rnndrop", dtype=torch.float32)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, state = recurrent_layer(
            case.flavour, one.x, None, one.state, one.weights, one.masks, reverse=False
        )
    (of_x,) = torch.autograd.grad(output.float().sum(), one.x)

    assert output.dtype == torch.bfloat16
    assert state.h.dtype == torch.float32
    expected, expected_gradients = run_readable(one)
    # bfloat16 has 8 bits.
    assert_same((output.float(), state.h), expected[:2], 2e-2)
    assert of_x.dtype == torch.float32
    assert of_x.shape == expected_gradients[0].shape


def test_a_result_without_a_gradient_counts_as_zero() -> None:
    one = problem(Case("lstm"), "zoneout")
    arguments = (one.x, None, one.state, one.weights, one.masks)

    _, state = recurrent_layer("lstm", *arguments, reverse=False)
    _, expected_state = unroll(one.cell, *arguments, reverse=False)

    assert state.c is not None
    assert expected_state.c is not None
    actual = torch.autograd.grad(state.c.sum(), one.leaves)
    assert_same(actual, torch.autograd.grad(expected_state.c.sum(), one.leaves), 1e-10)


def test_a_second_derivative_is_refused() -> None:
    one = problem(Case("gru"), "zoneout")
    output, _ = recurrent_layer("gru", one.x, None, one.state, one.weights, one.masks, reverse=True)

    with pytest.raises(RuntimeError, match=r"create_graph=True: .* TIDEGATE_KERNELS=0"):
        torch.autograd.grad(output.sum(), one.x, create_graph=True)


def test_a_step_with_too_many_elements_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_module, "MOST_ELEMENTS", 99)
    one = problem(Case("lstm"), "zoneout")

    with pytest.raises(ValueError, match=r"a step has 100 gates, .* smaller batches"):
        run(one, recurrent_layer)


def test_what_is_on_the_cpu_goes_another_path() -> None:
    one = problem(Case("lstm"), "zoneout")

    assert not supports(one.weights, one.masks)


@pytest.mark.parametrize("key", [1, -(2**63), 2**62 + 12345])
@pytest.mark.parametrize("units", [1, 5, 1500])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_a_draw_is_that_of_the_specification(key: int, units: int, dtype: torch.dtype) -> None:
    samples = torch.tensor([0, 1, 7, 2**40])
    # Neither factor has few bits.
    what = Draw(key, round(0.3 * 2**24), 3, units, -1 / 3, 1 / 0.7, dtype)

    factors = draw(samples, what)

    assert factors.dtype == dtype
    assert factors.equal(counter_rng.draw_in_torch(samples, what))


class Replay:
    """What a CUDA graph does: the same memory at each call."""

    made = 0

    def __init__(self, function: Function, tensors: Sequence[Tensor | None]) -> None:
        Replay.made += 1
        self.function = function
        self.inputs = [None if one is None else torch.full_like(one, 1) for one in tensors]
        self.outputs = [None if one is None else one.clone() for one in function(*self.inputs)]
        self.is_closed = False

    def replay(self, tensors: Sequence[Tensor | None]) -> Tensors:
        for own, given in zip(self.inputs, tensors, strict=True):
            if own is not None and given is not None:
                own.copy_(given)
        for mine, new in zip(self.outputs, self.function(*self.inputs), strict=True):
            if mine is not None and new is not None:
                mine.copy_(new)
        return tuple(None if one is None else one.clone() for one in self.outputs)

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize("case", FLAVOURS, ids=lambda case: case.flavour)
def test_layers_of_one_shape_share_a_graph_and_keep_their_own_numbers(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_module, "_graphs", GraphCache(Replay, captured_at=1))
    monkeypatch.setattr(layer_module, "may_capture", lambda _: True)
    Replay.made = 0
    one = problem(case, "rnndrop+weight_drop-per-example", sizes=(3, 2, 4, 4), ragged=True)

    def twice() -> tuple[Tensor, ...]:
        rest = (one.lengths, one.state, one.weights, one.masks)
        first, _ = recurrent_layer(case.flavour, one.x, *rest, reverse=False)
        second, _ = recurrent_layer(case.flavour, first + 1, *rest, reverse=False)
        return (second, *torch.autograd.grad((first * second).sum(), one.leaves[:2]))

    actual = twice()

    monkeypatch.setattr(layer_module, "may_capture", lambda _: False)
    assert_same(actual, twice(), 1e-12)
    # One of each direction of computation.
    assert Replay.made == 2


def test_only_calls_that_come_again_are_captured_and_the_oldest_graph_goes_first() -> None:
    captured: list[Replay] = []

    def capture(function: Function, tensors: Sequence[Tensor | None]) -> Replay:
        captured.append(Replay(function, tensors))
        return captured[-1]

    cache = GraphCache(capture, capacity=2, captured_at=2)

    def call(size: int) -> None:
        (result,) = cache.run("double", lambda x: (x * 2,), (torch.full((size,), 3.0),))
        assert result is not None
        assert result.equal(torch.full((size,), 6.0))

    for size in (1, 1, 2, 2, 1):
        call(size)
    assert len(captured) == 2
    call(3)
    assert len(captured) == 2
    call(3)
    assert [one.is_closed for one in captured] == [False, True, False]
    call(1)
    assert len(captured) == 3
