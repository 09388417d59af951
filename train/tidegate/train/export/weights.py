"""Weights of a layer as the graph holds them, and back.

Plain operators take torch's weights in ONNX's gate order. The step of an
expectation takes what makes it short: the biases added where nothing stands
between them, the sigmoids side by side.

Dimensions: G gates, H hidden, I input size, D directions.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tidegate.train.cells import Weights

Array = NDArray[np.float32]

# Position of each gate in torch's order. ONNX: LSTM i,f,g,o -> i,o,f,c and
# GRU r,z,n -> z,r,h. Step: the LSTM's three sigmoids i,f,o come first.
OPERATOR_ORDER = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}
STEP_ORDER = {"lstm": (0, 1, 3, 2), "gru": (0, 1, 2), "rnn": (0,)}
_Z = 1


class OperatorWeights(NamedTuple):
    """Of one direction, for the operator: W [G*H, I], R [G*H, H], B [2*G*H]."""

    W: Array
    R: Array
    B: Array


class StepWeights(NamedTuple):
    """Of one direction, for the step graph.

    Attributes:
        W: [G*H, I]. The GRU's update gate has the opposite sign: the step needs
            1 - sigmoid(a), which is sigmoid(-a).
        R: [G*H, H], likewise.
        B: [G*H], the sum of both biases, but for what ``B_hn`` holds.
        B_hn: [H], the GRU's b_hn, which the reset gate multiplies with the
            product; None where there is none.
    """

    W: Array
    R: Array
    B: Array
    B_hn: Array | None


def operator_weights(cell: str, weights: Weights) -> OperatorWeights:
    """Permutes torch's gates into ONNX's."""
    W, R, b_ih, b_hh = (_permuted(to_numpy(tensor), OPERATOR_ORDER[cell]) for tensor in weights)
    return OperatorWeights(W, R, np.concatenate([b_ih, b_hh]))


def from_operator_weights(cell: str, weights: OperatorWeights) -> tuple[Array, ...]:
    """The inverse: weight_ih, weight_hh, bias_ih and bias_hh, as torch holds them."""
    tensors = (weights.W, weights.R, *np.split(weights.B, 2))
    return tuple(_restored(tensor, OPERATOR_ORDER[cell]) for tensor in tensors)


def step_weights(cell: str, weights: Weights, *, reset_after: bool) -> StepWeights:
    """Arranges torch's weights for the step graph."""
    W, R, b_ih, b_hh = (_permuted(to_numpy(tensor), STEP_ORDER[cell]) for tensor in weights)
    B_hn = None
    if cell == "gru":
        W, R, b_ih, b_hh = (_with_z_negated(tensor) for tensor in (W, R, b_ih, b_hh))
        if reset_after:
            rz, B_hn = np.split(b_hh, [2 * len(b_hh) // 3])
            b_hh = np.concatenate([rz, np.zeros_like(B_hn)])
    return StepWeights(W, R, b_ih + b_hh, B_hn)


def from_step_weights(cell: str, weights: StepWeights) -> tuple[Array, ...]:
    """The inverse, with the sum of two biases in bias_ih and 0 in bias_hh."""
    b_hh = np.zeros_like(weights.B)
    if weights.B_hn is not None:
        b_hh[-len(weights.B_hn) :] = weights.B_hn
    tensors: Sequence[Array] = (weights.W, weights.R, weights.B, b_hh)
    if cell == "gru":
        tensors = [_with_z_negated(tensor) for tensor in tensors]
    return tuple(_restored(tensor, STEP_ORDER[cell]) for tensor in tensors)


def to_numpy(tensor: Tensor) -> Array:
    """The values as float32, whatever the device."""
    array: Array = tensor.detach().cpu().float().numpy()
    return array


def _permuted(array: NDArray[Any], order: Sequence[int]) -> Array:
    parts = np.split(array, len(order))
    return np.concatenate([parts[gate] for gate in order])


def _restored(array: NDArray[Any], order: Sequence[int]) -> Array:
    return _permuted(array, np.argsort(order).tolist())


def _with_z_negated(array: Array) -> Array:
    parts = np.split(array, 3)
    parts[_Z] = -parts[_Z]
    return np.concatenate(parts)
