"""Weights as int8 in the file: a quarter of the size, and float32 arithmetic as before.

Each row of a weight matrix becomes whole numbers from -127 to 127 times a scale of
its own: w ~ scale * q, with scale = max |row| / 127. In the graph a Cast and a Mul
give the float32 weight back. Both read constants only, so that ONNX Runtime does
them once, when it loads the file. Inputs and states are never quantized: no
forecast depends on what it shares a batch with, as it would in a graph that scales
the inputs of a whole batch together.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

LEVELS = 127
# Below this a matrix saves less than its nodes cost.
FEWEST_VALUES = 1024
QUANTIZED, SCALE, CAST = "_int8", "_scale", "_cast"


def quantize_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a file whose large weight matrices are int8.

    Args:
        model: from :mod:`tidegate.train.export.builders`.

    Raises:
        ValueError: no matrix is large enough.
    """
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    graph = quantized.graph
    kept, nodes = [], []
    for tensor in graph.initializer:
        if not is_large_matrix(tensor):
            kept.append(tensor)
            continue
        values, scale = _rows(numpy_helper.to_array(tensor))
        name = tensor.name
        kept.append(numpy_helper.from_array(values, name + QUANTIZED))
        kept.append(numpy_helper.from_array(scale, name + SCALE))
        nodes += [
            helper.make_node(
                "Cast", [name + QUANTIZED], [name + CAST], name + CAST, to=onnx.TensorProto.FLOAT
            ),
            helper.make_node("Mul", [name + CAST, name + SCALE], [name], f"{name}_weight"),
        ]
    if not nodes:
        raise ValueError(
            f"weights='int8': no weight matrix has {FEWEST_VALUES} values, so that nothing would "
            "be saved; leave it out"
        )
    nodes += graph.node
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    return quantized


def float_weights(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The constants of a file by name, int8 weights as the float32 that the graph makes of them."""
    weights = dict(tensors)
    for name in tensors:
        stem = name.removesuffix(QUANTIZED)
        if stem != name:
            weights[stem] = tensors[name].astype(np.float32) * tensors[stem + SCALE]
    return weights


def is_large_matrix(tensor: onnx.TensorProto) -> bool:
    """Whether rounding a weight saves more than its nodes cost."""
    is_float = tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    return is_float and len(tensor.dims) >= 2 and math.prod(tensor.dims) >= FEWEST_VALUES


def _rows(values: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Whole numbers like ``values``, and a scale for each row of the last axis."""
    largest = np.abs(values).max(axis=-1, keepdims=True)
    scale = np.where(largest > 0, largest / LEVELS, 1.0).astype(np.float32)
    return np.rint(values / scale).astype(np.int8), scale
