"""The native kernels against the readable path: outputs, gradients, and what torch expects."""

import copy
import pickle
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from support.layers import assert_same, problem, run, run_readable
from support.recurrent_cases import (
    COMBINATIONS,
    FLAVOURS,
    METHODS,
    Case,
    inputs,
    methods_for,
    regularizers,
    unpacked,
)
from tidegate.train import Recurrent, Semeniuta, Variational, Zoneout
from tidegate.train.cells import Flip, State, Weights
from tidegate.train.kernels.recurrent_layer import is_ready, recurrent_layer, supports
from tidegate.train.masks import LayerMasks, Masks
from tidegate.train.unroll import find_cell

# Of the sums of a few thousand products; relative to the largest element.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 3e-5}
TAKEN = list(METHODS | COMBINATIONS)


@pytest.fixture(autouse=True, scope="module")
def built() -> None:
    """Without a compiler these tests fail: they are not skipped."""
    assert is_ready()


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize(("case", "method"), methods_for(FLAVOURS, TAKEN), ids=str)
def test_outputs_and_gradients_are_those_of_the_readable_path(
    case: Case, method: str, ragged: bool, reverse: bool
) -> None:
    for dtype, tolerance in TOLERANCE.items():
        one = problem(case, method, ragged=ragged, reverse=reverse, dtype=dtype)

        outputs, gradients = run(one, recurrent_layer)

        expected_outputs, expected_gradients = run_readable(one)
        assert_same(outputs, expected_outputs, tolerance)
        assert_same(gradients, expected_gradients, tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
@pytest.mark.parametrize("case", FLAVOURS, ids=lambda case: case.flavour)
@pytest.mark.parametrize(
    "method",
    [
        "variational-untied",
        "variational+zoneout+weight_drop",
        "weight_drop-per-example",
        "variational+weight_drop-per-example",
    ],
)
@pytest.mark.parametrize(
    "sizes", [(23, 29, 35, 75), (9, 14, 130, 240), (300, 1, 1, 1), (1, 64, 8, 96)], ids=str
)
def test_sizes_beyond_a_tile_a_panel_and_a_block_fit_too(
    case: Case, method: str, sizes: tuple[int, int, int, int], dtype: torch.dtype
) -> None:
    one = problem(case, method, ragged=True, reverse=True, dtype=dtype, sizes=sizes)

    outputs, gradients = run(one, recurrent_layer)

    expected_outputs, expected_gradients = run_readable(one)
    assert_same(outputs, expected_outputs, TOLERANCE[dtype])
    assert_same(gradients, expected_gradients, TOLERANCE[dtype])


@pytest.mark.parametrize("case", FLAVOURS, ids=lambda case: case.flavour)
@pytest.mark.parametrize(
    "method", ["variational+zoneout+weight_drop", "variational+weight_drop-per-example"]
)
def test_gradients_are_those_of_finite_differences(case: Case, method: str) -> None:
    one = problem(case, method, ragged=True, reverse=True, sizes=(4, 3, 2, 3))

    def layer(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        states, weights = rest[:-4], rest[-4:]
        output, state = recurrent_layer(
            find_cell(case.cell, reset_after=case.reset_after).native,
            x,
            one.lengths,
            State(*states),
            Weights(*weights),
            one.masks,
            reverse=True,
        )
        return (output, *(part for part in state if part is not None))

    assert torch.autograd.gradcheck(layer, one.leaves)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("case", FLAVOURS, ids=lambda case: case.flavour)
@pytest.mark.parametrize(
    "method", ["variational+zoneout+weight_drop", "variational+weight_drop-per-example"]
)
def test_the_number_of_threads_changes_no_bit(case: Case, method: str, threads: int) -> None:
    one = problem(case, method, sizes=(40, 30, 33, 65))
    outputs, gradients = run(one, recurrent_layer)
    torch.set_num_threads(3 - threads)

    other_outputs, other_gradients = run(one, recurrent_layer)

    pairs = zip(outputs + gradients, other_outputs + other_gradients, strict=True)
    assert all(mine.equal(other) for mine, other in pairs)


@pytest.mark.parametrize("case", FLAVOURS, ids=lambda case: case.flavour)
def test_a_row_has_the_same_bits_whatever_shares_its_batch(case: Case) -> None:
    model = case.build(Zoneout(0.3, 0.2), Variational(0.3), input_size=9, hidden_size=70)
    x, masks = torch.randn(30, 6, 9, dtype=torch.float64), model.sample_masks(30, 6)
    alone = Masks(((_rows(masks.layers[0][0], slice(17, 18)),),), None)

    output, _ = model(x, masks=masks._replace(output=None))

    expected, _ = model(x[17:18], masks=alone)
    assert output[17:18].equal(expected)


def _rows(masks: LayerMasks, rows: slice) -> LayerMasks:
    def cut(mask: Tensor | float | None) -> Tensor | float | None:
        return mask[..., rows, :] if isinstance(mask, Tensor) else mask

    return LayerMasks(*(cut(mask) for mask in masks))  # type: ignore[arg-type] # each as it was


@pytest.mark.parametrize("case", FLAVOURS, ids=lambda case: case.flavour)
@pytest.mark.parametrize(
    "method", ["rnndrop", "variational+zoneout+weight_drop", "weight_drop-per-example"]
)
def test_the_operator_passes_torchs_own_checks(case: Case, method: str) -> None:
    one = problem(case, method, ragged=True, sizes=(3, 2, 2, 3))
    calls: list[tuple[object, ...]] = []
    operator = torch.ops.tidegate.recurrent_layer

    def note(*arguments: object) -> object:
        calls.append(arguments)
        return operator(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.ops.tidegate, "recurrent_layer", note)
        run(one, recurrent_layer)

    torch.library.opcheck(operator, calls[0])


def test_the_kernel_is_what_training_runs_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("tidegate.train.unroll.unroll", refuse)
    for case, method in methods_for(FLAVOURS, TAKEN):
        case.build(*regularizers(method))(inputs())[0].sum().backward()


def test_a_mask_that_learns_goes_the_readable_path() -> None:
    one = problem(Case("lstm"), "variational")
    assert one.masks.hidden is not None

    masks = one.masks._replace(hidden=one.masks.hidden.clone().requires_grad_())

    assert supports(one.weights, one.masks)
    assert not supports(one.weights, masks)


@pytest.mark.parametrize("factor", Flip._fields)
def test_a_mask_for_each_row_that_learns_goes_the_readable_path_too(factor: str) -> None:
    one = problem(Case("lstm"), "weight_drop-per-example")
    assert one.masks.flip is not None
    learnt = getattr(one.masks.flip, factor).clone().requires_grad_()

    masks = one.masks._replace(flip=one.masks.flip._replace(**{factor: learnt}))

    assert not one.masks.requires_grad
    assert masks.requires_grad
    assert not supports(one.weights, masks)


def test_parts_of_a_mask_for_each_row_belong_together() -> None:
    one = problem(Case("lstm"), "weight_drop-per-example")
    assert one.masks.flip is not None
    wrong = one.masks._replace(flip=one.masks.flip._replace(rows=None))  # type: ignore[arg-type]  # refused

    with pytest.raises(ValueError, match="flip_rows and flip_hidden belong together"):
        recurrent_layer("lstm", one.x, None, one.state, one.weights, wrong, reverse=False)


def test_a_second_derivative_is_refused() -> None:
    one = problem(Case("lstm"), "zoneout")
    output, _ = recurrent_layer(
        "lstm", one.x, None, one.state, one.weights, one.masks, reverse=False
    )

    with pytest.raises(RuntimeError, match="second derivative; set TIDEGATE_KERNELS=0"):
        torch.autograd.grad(output.sum(), one.x, create_graph=True)


def test_a_backward_pass_can_be_repeated() -> None:
    one = problem(Case("gru"), "zoneout")
    output, _ = recurrent_layer("gru", one.x, None, one.state, one.weights, one.masks, reverse=True)

    (first,) = torch.autograd.grad(output.sum(), one.x, retain_graph=True)
    (second,) = torch.autograd.grad(output.sum(), one.x)

    assert first.equal(second)


@pytest.mark.parametrize(
    ("field", "shape"),
    [("candidate", (7, 4, 5)), ("hidden", (2, 5, 5)), ("weight", (20, 4)), ("input", (7, 5, 3))],
)
def test_a_mask_of_another_shape_is_an_error(field: str, shape: tuple[int, ...]) -> None:
    one = problem(Case("lstm"), "zoneout")
    wrong = {field: torch.ones(shape, dtype=torch.float64)}
    masks = one.masks._replace(**wrong)  # type: ignore[arg-type] # keys are field names

    with pytest.raises(ValueError, match=f"{field}.* give Double"):
        recurrent_layer("lstm", one.x, None, one.state, one.weights, masks, reverse=False)


# Torch's own compiler reads .grad of what a graph break hands over.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.slow
@pytest.mark.parametrize("case", FLAVOURS, ids=lambda case: case.flavour)
def test_a_compiled_network_gives_the_same_numbers(case: Case) -> None:
    torch.compiler.reset()
    model = case._replace(layers=2, directions=2).build(Zoneout(), Variational(0.3))
    x, lengths, masks = inputs(), torch.tensor([5, 1, 3]), model.sample_masks(3, 5)
    compiled = torch.compile(model, backend="aot_eager")

    output, _ = compiled(x, lengths, masks=masks)
    gradients = torch.autograd.grad(output.sum(), tuple(model.parameters()))

    expected, _ = model(x, lengths, masks=masks)
    expected_gradients = torch.autograd.grad(expected.sum(), tuple(model.parameters()))
    assert_same((output, *gradients), (expected, *expected_gradients), 1e-12)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_a_compiled_network_draws_new_masks_at_each_pass() -> None:
    torch.compiler.reset()
    model = Case("lstm").build(Zoneout(), Semeniuta(0.3))
    reference = copy.deepcopy(model)
    compiled = torch.compile(model, backend="aot_eager")

    for _ in range(3):
        torch.testing.assert_close(compiled(inputs())[0], reference(inputs())[0])


@pytest.mark.parametrize(
    "change",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],  # noqa: S301 # its own bytes
    ids=["deepcopy", "pickle"],
)
def test_a_copied_network_trains_on(change: Callable[[Recurrent], Recurrent]) -> None:
    model = Case("gru", layers=2).build(Zoneout(), Variational(0.3))
    twin = change(model)

    output, _ = twin(inputs())
    output.sum().backward()

    torch.testing.assert_close(output, model(inputs())[0], atol=0, rtol=0)
    assert all(parameter.grad is not None for parameter in twin.parameters())


def test_a_network_made_double_computes_in_double() -> None:
    model = Case("lstm").build(Zoneout(), dtype=torch.float32)
    x, masks = inputs(), model.sample_masks(3, 5, dtype=torch.float64)

    output, _ = model.double()(x, masks=masks)

    expected, _ = Case("lstm").build(Zoneout(), dtype=torch.float32).double()(x, masks=masks)
    assert output.dtype == torch.float64
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("case", FLAVOURS, ids=lambda case: case.flavour)
def test_under_autocast_the_recurrence_keeps_the_precision_of_its_weights(case: Case) -> None:
    model = case._replace(layers=2).build(Zoneout(), dtype=torch.float32)
    x, masks = inputs(dtype=torch.float32), model.sample_masks(3, 5)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, state = model(x.bfloat16(), masks=masks)
    output.sum().backward()

    expected, expected_state = model(x.bfloat16().float(), masks=masks)
    torch.testing.assert_close(output, expected)
    for part, expected_part in zip(unpacked(state), unpacked(expected_state), strict=True):
        torch.testing.assert_close(part, expected_part)
    assert all(parameter.grad is not None for parameter in model.parameters())
