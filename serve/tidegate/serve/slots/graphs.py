"""The graphs that move states in device memory, as ONNX files of one or two operators.

They are written with the few fields of `onnx_graph.proto`, so that the server
needs no ONNX package. Each serves all states of a model in one run; state i is
`array_i` [layers, slots, width], and `rows_i` [layers, batch, width] of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tidegate.v1 import onnx_graph_pb2 as onnx

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

    from tidegate.serve.spec import StateLayout

# As in the models' own files; ONNX Runtime has these operators for CUDA there.
_OPSET = 22
_IR_VERSION = 10
# Of onnx.proto: TensorProto.DataType and AttributeProto.AttributeType.
_ELEMENTS = {np.dtype("float32"): 1, np.dtype("int64"): 7, np.dtype("float16"): 10}
_INT, _INTS = 2, 7

_INT64 = np.dtype("int64")
_ARRAY = ("layers", "slots", "width")
_ROWS = ("layers", "batch", "width")
_PLACES = ("layers", "batch", "pair")


def gather_graph(layouts: Sequence[StateLayout]) -> bytes:
    """`slots` int64 [batch] and each `array_i` -> each `rows_i`."""
    graph = onnx.OnnxGraph(name="gather")
    _declare(graph.input, "slots", _INT64, ("batch",))
    for i, layout in enumerate(layouts):
        _declare(graph.input, f"array_{i}", layout.dtype, _ARRAY)
        _declare(graph.output, f"rows_{i}", layout.dtype, _ROWS)
        _add(graph, "Gather", [f"array_{i}", "slots"], f"rows_{i}", axis=1)
    return _file(graph)


def scatter_graph(layouts: Sequence[StateLayout]) -> bytes:
    """Each `array_i`, `places_i` and `rows_i` -> each `changed_i`, the array with these rows.

    `places_i` int64 [layers, batch, 2] holds the layer and slot of each row. Bound
    to the memory of `array_i`, `changed_i` costs no copy of the array: ScatterND
    copies only where its input and output differ, on the CPU and on CUDA.
    """
    graph = onnx.OnnxGraph(name="scatter")
    for i, layout in enumerate(layouts):
        _declare(graph.input, f"array_{i}", layout.dtype, _ARRAY)
        _declare(graph.input, f"places_{i}", _INT64, _PLACES)
        _declare(graph.input, f"rows_{i}", layout.dtype, _ROWS)
        _declare(graph.output, f"changed_{i}", layout.dtype, _ARRAY)
        inputs = [f"array_{i}", f"places_{i}", f"rows_{i}"]
        _add(graph, "ScatterND", inputs, f"changed_{i}")
    return _file(graph)


def residue_graph(layouts: Sequence[StateLayout]) -> bytes:
    """Each `rows_i` -> each `residue_i` [batch]: 0 where a series is finite, else NaN.

    x - x is 0 for every finite x and NaN for the others, which a sum keeps.
    """
    graph = onnx.OnnxGraph(name="residue")
    _add(graph, "Constant", [], "axes", value_ints=(0, 2))
    for i, layout in enumerate(layouts):
        _declare(graph.input, f"rows_{i}", layout.dtype, _ROWS)
        _declare(graph.output, f"residue_{i}", layout.dtype, ("batch",))
        _add(graph, "Sub", [f"rows_{i}", f"rows_{i}"], f"difference_{i}")
        _add(graph, "ReduceSum", [f"difference_{i}", "axes"], f"residue_{i}", keepdims=0)
    return _file(graph)


def _file(graph: onnx.OnnxGraph) -> bytes:
    versions = [onnx.OnnxOperatorSet(version=_OPSET)]
    model = onnx.OnnxModel(ir_version=_IR_VERSION, graph=graph, opset_import=versions)
    return model.SerializeToString()


def _declare(
    values: RepeatedCompositeFieldContainer[onnx.OnnxValue],
    name: str,
    dtype: np.dtype[Any],
    axes: Sequence[str],
) -> None:
    shape = onnx.OnnxShape(dim=[onnx.OnnxDimension(dim_param=axis) for axis in axes])
    tensor = onnx.OnnxTensorType(elem_type=_ELEMENTS[dtype], shape=shape)
    values.append(onnx.OnnxValue(name=name, type=onnx.OnnxType(tensor_type=tensor)))


def _add(
    graph: onnx.OnnxGraph,
    operator: str,
    inputs: Sequence[str],
    output: str,
    **attributes: int | tuple[int, ...],
) -> None:
    node = graph.node.add(op_type=operator, input=inputs, output=[output])
    for name, value in attributes.items():
        if isinstance(value, int):
            node.attribute.add(name=name, type=_INT, i=value)
        else:
            node.attribute.add(name=name, type=_INTS, ints=value)
