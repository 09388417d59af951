"""Weights as float16 in the file, and recurrent operators that compute in it: for GPUs.

Inputs, outputs and states stay float32. Each LSTM, GRU or RNN operator stands between
Casts. What stands around it computes in float32 from weights that a Cast turns back when
the file is loaded: raw values may lie beyond 65504, and sums lose digits in float16. So
does the step of an expectation, whose time goes into its loop and not into its products.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tidegate.train.export.contract import OPERATORS
from tidegate.train.export.quantization import FEWEST_VALUES, is_large_matrix

HALF = "_float16"
FIRST_LAYER = "W_l0"
_FLOAT, _FLOAT16 = int(onnx.TensorProto.FLOAT), int(onnx.TensorProto.FLOAT16)
_RANGE = np.finfo(np.float16)
LARGEST, SMALLEST = float(_RANGE.max), float(_RANGE.smallest_normal)
# Inputs of the operators that are neither lengths nor absent: X, W, R, B, and the states.
_DATA, _WEIGHTS, _STATES = 0, slice(1, 4), slice(5, 7)


def halve_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a file whose recurrent operators and large weight matrices are float16.

    Args:
        model: from :mod:`tidegate.train.export.builders`, with inputs of the first
            layer that are not in raw units.

    Raises:
        ValueError: no matrix is large enough, or an operator's weight is beyond float16.
    """
    halved = onnx.ModelProto()
    halved.CopyFrom(model)
    graph = halved.graph
    of_operators = {
        name
        for node in graph.node
        if node.op_type in OPERATORS.values()
        for name in node.input[_WEIGHTS]
    }
    kept, nodes = [], []
    for tensor in graph.initializer:
        values, name = numpy_helper.to_array(tensor), tensor.name
        if name in of_operators:
            _check_range(name, values)
            kept.append(numpy_helper.from_array(values.astype(np.float16), name))
        elif is_large_matrix(tensor) and _fits(values):
            kept.append(numpy_helper.from_array(values.astype(np.float16), name + HALF))
            nodes.append(_cast(name + HALF, name, _FLOAT))
        else:
            kept.append(tensor)
    if not any(map(_is_large_half, kept)):
        raise ValueError(
            f"weights='float16': no weight matrix has {FEWEST_VALUES} values that float16 holds, "
            "so that nothing would be saved; leave it out"
        )
    for node in graph.node:
        nodes += _between_casts(node) if node.op_type in OPERATORS.values() else [node]
    limits = [
        numpy_helper.from_array(np.array(sign * LARGEST, np.float32), name)
        for sign, name in ((-1, "least_float16"), (1, "largest_float16"))
    ]
    is_clipped = any(node.op_type == "Clip" and limits[0].name in node.input for node in nodes)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept + limits * is_clipped)
    graph.node.extend(nodes)
    return halved


def from_halves(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The constants of a file by name, those of float16 as float32."""
    return {
        name.removesuffix(HALF): value.astype(np.float32) if value.dtype == np.float16 else value
        for name, value in tensors.items()
    }


def _between_casts(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """A recurrent operator in float16 of float32 values."""
    inner = onnx.NodeProto()
    inner.CopyFrom(node)
    data = node.input[_DATA]
    # Further layers read what others made of it, which is near -1 to 1.
    if node.input[1].endswith(FIRST_LAYER):
        clipped = f"{node.name}_clipped"
        yield helper.make_node("Clip", [data, "least_float16", "largest_float16"], [clipped])
        data = clipped
    inner.input[_DATA] = f"{node.name}_x{HALF}"
    yield _cast(data, inner.input[_DATA], _FLOAT16)
    for place, state in list(enumerate(node.input))[_STATES]:
        inner.input[place] = f"{node.name}_state_{place}{HALF}"
        yield _cast(state, inner.input[place], _FLOAT16)
    inner.output[:] = [name and name + HALF for name in node.output]
    yield inner
    for name in filter(None, node.output):
        yield _cast(name + HALF, name, _FLOAT)


def _cast(value: str, name: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [value], [name], f"{name}_cast", to=to)


def _is_large_half(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type == _FLOAT16 and is_large_matrix(tensor)


def _check_range(name: str, values: NDArray[np.float32]) -> None:
    largest = float(np.abs(values).max())
    # NaN is for the parity gate.
    if largest > LARGEST:
        raise ValueError(
            f"weights='float16': {name} holds {largest:.6g}, beyond {LARGEST:g}, the largest "
            "number of float16; export float32"
        )


def _fits(values: NDArray[np.float32]) -> bool:
    """Whether each column keeps float16's digits: in the head's, raw units may be of any size."""
    largest = np.abs(values).max(axis=-2)
    return bool(((largest == 0) | ((largest >= SMALLEST) & (largest <= LARGEST))).all())
