"""Networks trained elsewhere: imported, equal to the original, and exported."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from support.models import Session
from tidegate.train import Recurrent, Zaremba, export_onnx, from_keras, from_torch

Array = NDArray[np.float64]
TORCH = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


def run_file(network: Recurrent, x: NDArray[np.float32], folder: Path) -> NDArray[np.float32]:
    """The exported file's output, from zero states."""
    spec = export_onnx(network, folder / "model.onnx")
    inputs: dict[str, NDArray[Any]] = {"x": x, "lengths": np.full(len(x), x.shape[1], np.int32)}
    for state in spec.states:
        shape = [len(x) if axis == -1 else axis for axis in state.shape]
        inputs[state.input] = np.zeros(shape, np.float32)
    return Session(folder / "model.onnx").run(inputs)["output"]


# torch


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", TORCH)
def test_a_torch_module_becomes_the_same_network(
    cell: str, bidirectional: bool, bias: bool, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    module = TORCH[cell](3, 5, 2, bidirectional=bidirectional, bias=bias, batch_first=True)
    x = torch.randn(4, 7, 3)
    with torch.no_grad():
        expected = module(x)[0].numpy()

    network = from_torch(module)

    assert (network.cell, network.num_layers, network.batch_first) == (cell, 2, True)
    np.testing.assert_allclose(network(x)[0].detach(), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(run_file(network, x.numpy(), tmp_path), expected, rtol=0, atol=1e-6)


def test_the_weights_of_a_larger_model_are_found_by_their_prefix() -> None:
    model = nn.ModuleDict({"encoder": nn.GRU(3, 5), "head": nn.Linear(5, 1)})

    network = from_torch(model.state_dict(), prefix="encoder.", regularizers=[Zaremba(0.2)])

    assert repr(network) == repr(Recurrent("gru", 3, 5, regularizers=[Zaremba(0.2)]))
    assert torch.equal(
        network.weights(0, 0).weight_ih, model["encoder"].get_parameter("weight_ih_l0")
    )


def test_the_layout_of_a_module_stays() -> None:
    assert not from_torch(nn.LSTM(3, 5)).batch_first
    assert from_torch(nn.LSTM(3, 5).double()).weights(0, 0).weight_ih.dtype == torch.float64


def test_training_on_does_not_change_the_original() -> None:
    module = nn.GRU(3, 5)
    before = module.get_parameter("weight_ih_l0").detach().clone()

    with torch.no_grad():
        from_torch(module).weights(0, 0).weight_ih.zero_()

    assert torch.equal(module.get_parameter("weight_ih_l0"), before)


def damaged(name: str, value: torch.Tensor | None) -> dict[str, torch.Tensor]:
    state = nn.LSTM(3, 5, 2).state_dict()
    state.pop(name, None)
    return state if value is None else state | {name: value}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (nn.Linear(3, 5), "source is a Linear; give a torch.nn.LSTM, GRU or RNN"),
        (nn.RNN(3, 5, nonlinearity="relu"), "nonlinearity='relu'; only tanh"),
        (nn.LSTM(3, 5, proj_size=2), "proj_size is not supported"),
        (nn.Linear(3, 5).state_dict(), r"prefix='' leads to \['bias', 'weight'\]"),
        (damaged("weight_ih_l1", None), "weight_ih_l1 is missing"),
        (damaged("weight_ih_l1", torch.zeros(20, 4)), r"weight_ih_l1 has the shape \[20, 4\]; .*5"),
        (damaged("weight_hh_l0", torch.zeros(7, 5)), r"weight_hh_l0 has the shape \[7, 5\]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_such_network_is_refused(source: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        from_torch(source)


# Keras: the equations as its documentation and layers give them, in NumPy.


def sigmoid(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


def keras_lstm(x: Array, kernel: Array, recurrent_kernel: Array, bias: Array) -> Array:
    """keras.layers.LSTM over [time, inputs]; gates i, f, c, o."""
    units = len(recurrent_kernel)
    h, c, outputs = np.zeros(units), np.zeros(units), []
    for row in x:
        z = row @ kernel + h @ recurrent_kernel + bias
        z0, z1, z2, z3 = z[:units], z[units : 2 * units], z[2 * units : 3 * units], z[3 * units :]
        c = sigmoid(z1) * c + sigmoid(z0) * np.tanh(z2)
        h = sigmoid(z3) * np.tanh(c)
        outputs.append(h)
    return np.array(outputs)


def keras_gru(x: Array, kernel: Array, recurrent_kernel: Array, bias: Array) -> Array:
    """keras.layers.GRU over [time, inputs]; gates z, r, h; reset_after if the bias has two rows."""
    units = len(recurrent_kernel)
    h, outputs = np.zeros(units), []
    for row in x:
        if bias.ndim == 2:
            matrix_x = row @ kernel + bias[0]
            matrix_inner = h @ recurrent_kernel + bias[1]
            x_z, x_r, x_h = np.split(matrix_x, 3)
            recurrent_z, recurrent_r, recurrent_h = np.split(matrix_inner, 3)
            z, r = sigmoid(x_z + recurrent_z), sigmoid(x_r + recurrent_r)
            hh = np.tanh(x_h + r * recurrent_h)
        else:
            x_z, x_r, x_h = np.split(row @ kernel + bias, 3)
            z = sigmoid(x_z + h @ recurrent_kernel[:, :units])
            r = sigmoid(x_r + h @ recurrent_kernel[:, units : 2 * units])
            hh = np.tanh(x_h + (r * h) @ recurrent_kernel[:, 2 * units :])
        h = z * h + (1 - z) * hh
        outputs.append(h)
    return np.array(outputs)


def keras_rnn(x: Array, kernel: Array, recurrent_kernel: Array, bias: Array) -> Array:
    """keras.layers.SimpleRNN over [time, inputs]."""
    h, outputs = np.zeros(len(recurrent_kernel)), []
    for row in x:
        h = np.tanh(row @ kernel + bias + h @ recurrent_kernel)
        outputs.append(h)
    return np.array(outputs)


KERAS = {"lstm": (keras_lstm, 4), "gru": (keras_gru, 3), "rnn": (keras_rnn, 1)}
FLAVOURS = [("lstm", True), ("gru", True), ("gru", False), ("rnn", True)]


def keras_weights(cell: str, inputs: int, units: int, seed: int, *, reset_after: bool) -> list[Any]:
    rng, gates = np.random.default_rng(seed), KERAS[cell][1]
    bias = (2, gates * units) if cell == "gru" and reset_after else (gates * units,)
    shapes = [(inputs, gates * units), (units, gates * units), bias]
    return [rng.normal(0, 0.5, shape) for shape in shapes]


@pytest.mark.parametrize(("cell", "reset_after"), FLAVOURS)
def test_stacked_keras_layers_become_the_same_network(
    cell: str, reset_after: bool, tmp_path: Path
) -> None:
    layers = [
        keras_weights(cell, inputs, 4, seed, reset_after=reset_after)
        for seed, inputs in enumerate((3, 4))
    ]
    x = np.random.default_rng(9).normal(size=(6, 3))
    expected = x
    for weights in layers:
        expected = KERAS[cell][0](expected, *weights)

    network = from_keras(cell, layers, reset_after=reset_after)  # type: ignore[arg-type] # a cell

    found = run_file(network, x[None].astype(np.float32), tmp_path)
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("merge", ["concat", "sum"])
@pytest.mark.parametrize(("cell", "reset_after"), FLAVOURS)
def test_bidirectional_keras_layers_become_the_same_network(
    cell: str, reset_after: bool, merge: Any, tmp_path: Path
) -> None:
    forward, backward = (
        keras_weights(cell, 3, 4, seed, reset_after=reset_after) for seed in (1, 2)
    )
    x = np.random.default_rng(9).normal(size=(6, 3))
    step = KERAS[cell][0]
    sides = [step(x, *forward), step(x[::-1], *backward)[::-1]]
    expected = np.concatenate(sides, axis=-1) if merge == "concat" else sides[0] + sides[1]

    network = from_keras(
        cell,  # type: ignore[arg-type] # a cell
        [[*forward, *backward]],
        reset_after=reset_after,
        merge=merge,
    )

    found = run_file(network, x[None].astype(np.float32), tmp_path)
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-6)


def test_keras_layers_without_a_bias_have_none(tmp_path: Path) -> None:
    kernel, recurrent_kernel, bias = keras_weights("gru", 3, 4, 0, reset_after=True)
    x = np.random.default_rng(9).normal(size=(6, 3))

    network = from_keras("gru", [[kernel, recurrent_kernel]])

    expected = keras_gru(x, kernel, recurrent_kernel, 0 * bias)
    found = run_file(network, x[None].astype(np.float32), tmp_path)
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-6)


def arrays(*shapes: Sequence[int]) -> list[Any]:
    return [np.zeros(shape) for shape in shapes]


@pytest.mark.parametrize(
    ("cell", "layers", "text"),
    [
        ("lstm", [], "layers is empty"),
        ("gru", [arrays((3, 12))], r"layers\[0\] has 1 arrays"),
        ("gru", [arrays((3, 12), (4, 12), (12,))], r"bias has the shape \[12\]; .*\[2, 12\]"),
        ("lstm", [arrays((3, 15), (4, 16), (15,))], r"kernel has the shape \[3, 15\]"),
        ("lstm", [arrays((3, 16), (5, 16), (16,))], "weight_hh_l0 has the shape"),
        ("lstm", [arrays((3, 16), (4, 16), (16,)), arrays((3, 16), (4, 16), (16,))], "_ih_l1 has"),
        ("qrnn", [arrays((3, 12))], "cell='qrnn' is unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_keras_arrays_that_do_not_fit_are_refused(cell: Any, layers: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        from_keras(cell, layers)
