"""One recurrent layer with all that it reads, for the tests of the kernels."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from support.recurrent_cases import Case, regularizers
from tidegate.train import Recurrent
from tidegate.train.cells import State, Weights
from tidegate.train.masks import LayerMasks
from tidegate.train.unroll import Cell, find_cell, unroll

RunLayer = Callable[..., tuple[Tensor, State]]
Results = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]


class Problem(NamedTuple):
    """One layer and direction with all that it reads."""

    model: Recurrent
    x: Tensor
    lengths: Tensor | None
    state: State
    masks: LayerMasks
    reverse: bool

    @property
    def cell(self) -> Cell:
        return find_cell(self.model.cell, reset_after=self.model.reset_after)

    @property
    def weights(self) -> Weights:
        return self.model.weights(0, int(self.reverse))

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        states = tuple(part for part in self.state if part is not None)
        return (self.x, *states, *self.weights)


def problem(
    case: Case,
    method: str,
    *,
    ragged: bool = False,
    reverse: bool = False,
    dtype: torch.dtype = torch.float64,
    sizes: tuple[int, int, int, int] = (7, 5, 3, 5),
    device: str = "cpu",
) -> Problem:
    """A layer of T, B, I and H as in ``sizes``, everything by a fixed seed."""
    time, batch, input_size, hidden_size = sizes
    model = case._replace(directions=2).build(
        *regularizers(method), dtype=dtype, input_size=input_size, hidden_size=hidden_size
    )
    torch.manual_seed(11)
    x = torch.randn(time, batch, input_size, dtype=dtype)
    h = torch.randn(batch, hidden_size, dtype=dtype)
    c = torch.randn(batch, hidden_size, dtype=dtype)
    lengths = torch.randint(1, time + 1, (batch,)).to(device) if ragged else None
    x, h, c = (one.to(device).requires_grad_() for one in (x, h, c))
    model = model.to(device)
    masks = model.sample_masks(batch, time).layers[0][int(reverse)]
    state = State(h, c if case.cell == "lstm" else None)
    return Problem(model, x, lengths, state, masks, reverse)


def run(one: Problem, layer: RunLayer) -> Results:
    """The outputs, and the gradients of a fixed random sum of them."""
    output, state = layer(
        one.cell.native, one.x, one.lengths, one.state, one.weights, one.masks, reverse=one.reverse
    )
    return with_gradients(one, output, state)


def run_readable(one: Problem) -> Results:
    """The same on the readable path."""
    output, state = unroll(
        one.cell, one.x, one.lengths, one.state, one.weights, one.masks, reverse=one.reverse
    )
    return with_gradients(one, output, state)


def with_gradients(one: Problem, output: Tensor, state: State) -> Results:
    """The outputs, and the gradients of a fixed random sum of them."""
    results = (output, *(part for part in state if part is not None))
    torch.manual_seed(13)
    total = sum((torch.randn(one.shape).to(one) * one).sum() for one in results)
    assert isinstance(total, Tensor)
    return results, torch.autograd.grad(total, one.leaves)


def assert_same(actual: tuple[Tensor, ...], expected: tuple[Tensor, ...], tolerance: float) -> None:
    """Elements differ by no more than ``tolerance`` times the largest of their tensor."""
    for mine, theirs in zip(actual, expected, strict=True):
        scale = max(1.0, theirs.abs().max().item())
        torch.testing.assert_close(mine.cpu(), theirs.cpu(), rtol=0, atol=tolerance * scale)
