"""Weights of a layer in the order of the ONNX operators.

Dimensions: G gates, H hidden, I input size, D directions.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tidegate.train.cells import Weights

Array = NDArray[np.float32]

# Position of each ONNX gate in torch's order: LSTM i,f,g,o -> i,o,f,c and
# GRU r,z,n -> z,r,h.
GATE_ORDER = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}


class OperatorWeights(NamedTuple):
    """Weights of one direction: W [G*H, I], R [G*H, H], B [2*G*H]."""

    W: Array
    R: Array
    B: Array


def operator_weights(cell: str, weights: Weights) -> OperatorWeights:
    """Permutes torch's gates into ONNX's."""
    W, R, b_ih, b_hh = (_permuted(cell, to_numpy(tensor)) for tensor in weights)
    return OperatorWeights(W, R, np.concatenate([b_ih, b_hh]))


def to_numpy(tensor: Tensor) -> Array:
    """The values as float32, whatever the device."""
    array: Array = tensor.detach().cpu().float().numpy()
    return array


def _permuted(cell: str, array: NDArray[Any]) -> Array:
    order = GATE_ORDER[cell]
    return np.concatenate([np.split(array, len(order))[gate] for gate in order])
