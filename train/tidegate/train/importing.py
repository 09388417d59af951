"""Trained networks of other libraries as a :class:`Recurrent`, to export or train on.

Dimensions: I input size, H hidden, G gates, L layers, D directions.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from tidegate.train.arguments import check_choice
from tidegate.train.recurrent import CellName, Merge, Recurrent
from tidegate.train.recurrent_base import CELLS
from tidegate.train.regularizers import Regularizer

_GATES: dict[int, CellName] = {4: "lstm", 3: "gru", 1: "rnn"}
_MODULES: dict[type[nn.Module], CellName] = {nn.LSTM: "lstm", nn.GRU: "gru", nn.RNN: "rnn"}
_KEY = re.compile(r"(weight_ih|weight_hh|bias_ih|bias_hh)_l(\d+)(_reverse)?")
# Position of each of torch's gates in Keras' order: LSTM i,f,c,o is torch's
# i,f,g,o; GRU z,r,h against torch's r,z,n.
_KERAS_ORDER = {"lstm": (0, 1, 2, 3), "gru": (1, 0, 2), "rnn": (0,)}

Array = NDArray[np.floating]


def from_torch(
    source: nn.Module | Mapping[str, Tensor],
    *,
    prefix: str = "",
    batch_first: bool | None = None,
    regularizers: Sequence[Regularizer] = (),
) -> Recurrent:
    """A trained ``torch.nn.LSTM``, ``GRU`` or ``RNN`` as a network of ours.

    Sizes, layers and directions are read from the shapes of the weights, the
    cell from their number of gates. A module's ``dropout=`` is not taken over:
    it changes no inference; give regularizers to train on.

    Args:
        source: the module, or a state_dict that holds its weights.
        prefix: of the weights' names in a larger state_dict, such as "encoder.lstm.".
        batch_first: layout of x; None: that of the module, and True for a state_dict.
        regularizers: of the new network.

    Returns:
        The network, with weights of its own, in evaluation mode.

    Raises:
        ValueError: the module is of another kind, has a projection or a relu, or
            weights are missing, unknown or of shapes that do not fit each other.
    """
    if isinstance(source, nn.Module):
        _check_module(source)
        batch_first = bool(source.batch_first) if batch_first is None else batch_first
        source = source.state_dict()
    state = {
        name.removeprefix(prefix): value
        for name, value in source.items()
        if name.startswith(prefix)
    }
    shape = _shape(state, prefix)
    network = Recurrent(
        shape.cell,
        shape.input_size,
        shape.hidden_size,
        shape.layers,
        bidirectional=shape.bidirectional,
        regularizers=regularizers,
        batch_first=True if batch_first is None else batch_first,
        dtype=state["weight_hh_l0"].dtype,
    )
    _fill(network, state, prefix)
    return network.eval()


def from_keras(
    cell: CellName,
    layers: Sequence[Sequence[ArrayLike]],
    *,
    reset_after: bool = True,
    merge: Merge = "concat",
    regularizers: Sequence[Regularizer] = (),
) -> Recurrent:
    """Trained Keras ``LSTM``, ``GRU`` or ``SimpleRNN`` layers as a network of ours.

    Their activations must be Keras' own, tanh and sigmoid. Keras itself is not
    needed: ``layers`` are the arrays of ``layer.get_weights()``.

    Args:
        cell: "lstm", "gru" or "rnn".
        layers: for each layer kernel [I, G*H], recurrent_kernel [H, G*H] and bias:
            [G*H], [2, 3*H] for a GRU with ``reset_after``, or left out with
            ``use_bias=False``. A ``Bidirectional`` layer has those of both.
        reset_after: of the GRU layers; Keras' default.
        merge: ``merge_mode`` of bidirectional layers, "concat" or "sum".
        regularizers: of the new network.

    Returns:
        The network, batch first as Keras is, in evaluation mode.

    Raises:
        ValueError: a shape does not fit.
    """
    check_choice("cell", cell, CELLS)
    if not layers:
        raise ValueError("layers is empty; give the arrays of at least one layer")
    arrays = [[np.asarray(one) for one in layer] for layer in layers]
    directions = 2 if len(arrays[0]) > 3 else 1
    state: dict[str, Tensor] = {}
    for index, layer in enumerate(arrays):
        size = len(layer) // directions
        if len(layer) != directions * size or size not in (2, 3):
            raise ValueError(
                f"layers[{index}] has {len(layer)} arrays; give kernel, recurrent_kernel and bias, "
                "twice for a bidirectional layer, and the same for all layers"
            )
        for direction, suffix in enumerate(("", "_reverse")[:directions]):
            weights = layer[direction * size : (direction + 1) * size]
            for name, value in _from_keras(cell, weights, index, reset_after=reset_after).items():
                tensor = torch.from_numpy(np.array(value, np.float32))
                state[f"{name}_l{index}{suffix}"] = tensor
    shape = _shape(state, "")
    network = Recurrent(
        cell,
        shape.input_size,
        shape.hidden_size,
        shape.layers,
        bidirectional=directions == 2,
        regularizers=regularizers,
        reset_after=reset_after,
        merge=merge,
    )
    _fill(network, state, "")
    return network.eval()


class _Shape(NamedTuple):
    cell: CellName
    input_size: int
    hidden_size: int
    layers: int
    bidirectional: bool


def _check_module(module: nn.Module) -> None:
    if type(module) not in _MODULES:
        raise ValueError(
            f"source is a {type(module).__name__}; give a torch.nn.LSTM, GRU or RNN, or a "
            "state_dict and the prefix of its weights"
        )
    if getattr(module, "nonlinearity", "tanh") != "tanh":
        raise ValueError("source.nonlinearity='relu'; only tanh is known")


def _shape(state: Mapping[str, Tensor], prefix: str) -> _Shape:
    keys = {name: _KEY.fullmatch(name) for name in state}
    unknown = sorted(name for name, match in keys.items() if match is None)
    if unknown or "weight_hh_l0" not in state or "weight_ih_l0" not in state:
        hint = "; proj_size is not supported" if any("weight_hr" in one for one in unknown) else ""
        raise ValueError(
            f"prefix={prefix!r} leads to {sorted(state)[:4]}...; the weights of a torch.nn.LSTM, "
            f"GRU or RNN are weight_ih_l0, weight_hh_l0, ...{hint}"
        )
    rows, hidden = state["weight_hh_l0"].shape
    gates, rest = divmod(rows, hidden)
    if rest or gates not in _GATES:
        raise ValueError(
            f"weight_hh_l0 has the shape {[rows, hidden]}; an LSTM has 4, a GRU 3 and an RNN 1 "
            "times as many rows as columns"
        )
    return _Shape(
        _GATES[gates],
        state["weight_ih_l0"].shape[1],
        hidden,
        1 + max(int(match[2]) for match in keys.values() if match),
        any(match[3] for match in keys.values() if match),
    )


@torch.no_grad()
def _fill(network: Recurrent, state: Mapping[str, Tensor], prefix: str) -> None:
    for name, parameter in network.named_parameters():
        value = state.get(name)
        if name.startswith("bias") and value is None:
            parameter.zero_()
        elif name.startswith("weight_merge"):
            continue
        elif value is None:
            raise ValueError(f"{prefix}{name} is missing; every layer and direction needs one")
        elif value.shape != parameter.shape:
            raise ValueError(
                f"{prefix}{name} has the shape {list(value.shape)}; beside the other weights it "
                f"must be {list(parameter.shape)}"
            )
        else:
            parameter.copy_(value)


def _from_keras(
    cell: str, weights: Sequence[Array], layer: int, *, reset_after: bool
) -> dict[str, Array]:
    """Transposes, permutes the gates, and names them as torch does."""
    kernel, recurrent_kernel, *rest = weights
    columns, order = kernel.shape[-1], _KERAS_ORDER[cell]
    if kernel.ndim != 2 or columns % len(order):
        raise ValueError(
            f"layers[{layer}]: kernel has the shape {list(kernel.shape)}; a {cell} has "
            f"[inputs, {len(order)} * units]"
        )
    bias_shape = (2, columns) if cell == "gru" and reset_after else (columns,)
    bias = rest[0] if rest else np.zeros(bias_shape)
    if bias.shape != bias_shape:
        raise ValueError(
            f"layers[{layer}]: bias has the shape {list(bias.shape)}; with reset_after="
            f"{reset_after} a {cell} of these units has {list(bias_shape)}"
        )
    bias_ih, bias_hh = bias if bias.ndim == 2 else (bias, np.zeros_like(bias))
    named = {
        "weight_ih": kernel.T,
        "weight_hh": recurrent_kernel.T,
        "bias_ih": bias_ih,
        "bias_hh": bias_hh,
    }
    return {name: _permuted(value, order) for name, value in named.items()}


def _permuted(array: Array, order: Sequence[int]) -> Array:
    parts = np.split(array, len(order))
    return np.concatenate([parts[gate] for gate in order])
