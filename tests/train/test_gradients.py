"""Gradients against finite differences, with the masks held fixed."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.func import functional_call

from support.recurrent_cases import (
    COMBINATIONS,
    FLAVOURS,
    METHODS,
    Case,
    initial_state,
    inputs,
    methods_for,
    packed,
    regularizers,
    unpacked,
)

SMALL = tuple(case._replace(layers=2, directions=2) for case in FLAVOURS)
LARGE = tuple(
    case._replace(layers=layers, directions=directions)
    for case in FLAVOURS
    for layers, directions in ((1, 1), (1, 2), (2, 1), (3, 1), (3, 2))
)
RAGGED = torch.tensor([3, 1])


def check(case: Case, method: str, lengths: Tensor | None, *, fast: bool = True) -> None:
    """x, h0, c0 and every weight and bias, through the output and the final states.

    The fast mode compares random projections of the two Jacobians, the other each element.
    """
    model = case.build(*regularizers(method), hidden_size=2)
    x, state = inputs(2, 3), initial_state(model, batch=2)
    masks = model.sample_masks(2, 3)
    names = [name for name, _ in model.named_parameters()]

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        states = tensors[1 : 1 + len(state)]
        weights = dict(zip(names, tensors[1 + len(state) :], strict=True))
        arguments = (tensors[0], lengths, packed(states))
        output, final = functional_call(model, weights, arguments, {"masks": masks})
        return output, *unpacked(final)

    tensors = (x, *state, *(parameter.detach() for parameter in model.parameters()))
    assert gradcheck(
        run, tuple(tensor.clone().requires_grad_() for tensor in tensors), fast_mode=fast
    )


@pytest.mark.parametrize("lengths", [None, RAGGED], ids=["full", "ragged"])
@pytest.mark.parametrize(("case", "method"), methods_for(SMALL, [*METHODS, *COMBINATIONS]), ids=str)
def test_all_gradients_are_those_of_finite_differences(
    case: Case, method: str, lengths: Tensor | None
) -> None:
    check(case, method, lengths)


@pytest.mark.parametrize("lengths", [None, RAGGED], ids=["full", "ragged"])
@pytest.mark.parametrize(("case", "method"), methods_for(FLAVOURS, METHODS), ids=str)
def test_every_element_of_the_jacobian_is_that_of_finite_differences(
    case: Case, method: str, lengths: Tensor | None
) -> None:
    check(case, method, lengths, fast=False)


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [None, RAGGED], ids=["full", "ragged"])
@pytest.mark.parametrize(("case", "method"), methods_for(LARGE, [*METHODS, *COMBINATIONS]), ids=str)
def test_all_gradients_of_every_shape_are_those_of_finite_differences(
    case: Case, method: str, lengths: Tensor | None
) -> None:
    check(case, method, lengths)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_backward_pass_uses_each_steps_own_mask(cell: str) -> None:
    """With no recurrence and a forgetting memory, step t alone decides its gradient."""
    model = Case("lstm" if cell == "lstm" else "gru").build(*regularizers("zaremba"))
    masks = model.sample_masks(3, 5)
    mask = masks.layers[0][0].input
    assert mask is not None
    x = inputs().requires_grad_()

    model(x, masks=masks)[0].sum().backward()

    assert x.grad is not None
    dropped = (mask[:, 0] == 0).transpose(0, 1)
    assert (x.grad == 0).equal(dropped)
    assert not dropped[:, 0].equal(dropped[:, 1])
