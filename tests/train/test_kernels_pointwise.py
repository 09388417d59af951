"""The kernels' own sigmoid and tanh, over the whole range of floating-point numbers."""

import pytest
import torch
from torch import Tensor

from tidegate.train.cells import State, Weights
from tidegate.train.kernels.recurrent_layer import is_ready, recurrent_layer
from tidegate.train.masks import LayerMasks

SPECIAL = (0.0, -0.0, float("inf"), float("-inf"), 1e-45, -1e-45, 3.4028235e38, -3.4028235e38)


@pytest.fixture(autouse=True, scope="module")
def built() -> None:
    assert is_ready()


def every_magnitude(dtype: torch.dtype) -> Tensor:
    """Floats of every exponent, and finely where the functions bend."""
    bits = torch.arange(-(2**31), 2**31, 65537, dtype=torch.int64).to(torch.int32)
    floats = bits.view(torch.float32)
    bend = torch.linspace(-100, 100, 100_001)
    near = torch.linspace(-1, 1, 20_001)
    values = torch.cat([floats[~floats.isnan()], bend, near, torch.tensor(SPECIAL)])
    return values.to(dtype)


def tanh(x: Tensor) -> Tensor:
    """Through a simple RNN whose state is ignored, each number a row of its own."""
    weights = Weights(x.new_ones(1, 1), *(x.new_zeros(shape) for shape in ((1, 1), 1, 1)))
    state = State(x.new_zeros(len(x), 1))
    output, _ = recurrent_layer(
        "rnn", x[None, :, None], None, state, weights, LayerMasks(), reverse=False
    )
    return output.flatten()


def sigmoid(x: Tensor) -> Tensor:
    """Through the forget gate of an LSTM whose cell is 1 and whose candidate is 0."""
    weight_ih = torch.tensor([[0.0], [1.0], [0.0], [0.0]], dtype=x.dtype)
    weights = Weights(weight_ih, *(x.new_zeros(shape) for shape in ((4, 1), 4, 4)))
    state = State(x.new_zeros(len(x), 1), x.new_ones(len(x), 1))
    _, (_, c) = recurrent_layer(
        "lstm", x[None, :, None], None, state, weights, LayerMasks(), reverse=False
    )
    assert c is not None
    return c.flatten()


@pytest.mark.parametrize(
    ("dtype", "relative"), [(torch.float32, 5e-7), (torch.float64, 1e-15)], ids=["fp32", "fp64"]
)
def test_tanh_is_exact_to_a_few_roundings(dtype: torch.dtype, relative: float) -> None:
    x = every_magnitude(dtype)

    expected = torch.tanh(x.double())

    torch.testing.assert_close(tanh(x).double(), expected, rtol=relative, atol=1e-44)


@pytest.mark.parametrize(
    ("dtype", "relative"), [(torch.float32, 4e-7), (torch.float64, 1e-15)], ids=["fp32", "fp64"]
)
def test_sigmoid_is_exact_to_a_few_roundings(dtype: torch.dtype, relative: float) -> None:
    x = every_magnitude(dtype)
    x = x[x.isfinite()]  # 0 * inf on the other gates is NaN; the limits have a test of their own

    expected = torch.sigmoid(x.double())

    torch.testing.assert_close(sigmoid(x).double(), expected, rtol=relative, atol=1e-34)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_reset_before", "rnn"])
def test_not_a_number_stays_one_and_the_infinite_saturates(cell: str, dtype: torch.dtype) -> None:
    gates = {"lstm": 4, "gru": 3, "gru_reset_before": 3, "rnn": 1}[cell]
    x = torch.tensor([float("nan"), float("inf"), float("-inf")], dtype=dtype)
    weights = Weights(
        x.new_ones(gates, 1), x.new_zeros(gates, 1), x.new_zeros(gates), x.new_zeros(gates)
    )
    state = State(x.new_zeros(3, 1), x.new_zeros(3, 1) if cell == "lstm" else None)

    output, _ = recurrent_layer(
        cell, x[None, :, None], None, state, weights, LayerMasks(), reverse=False
    )

    # With every gate at its limit: LSTM tanh(1), or 0; GRU 1 - z = 0, or n = -1; RNN 1, or -1.
    high, low = {"lstm": (torch.tanh(torch.tensor(1.0)).item(), 0.0), "rnn": (1.0, -1.0)}.get(
        cell, (0.0, -1.0)
    )
    assert output.flatten()[0].isnan()
    assert output.flatten()[1:].tolist() == pytest.approx([high, low], abs=1e-7)
