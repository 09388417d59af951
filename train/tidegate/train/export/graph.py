"""A thin builder over onnx.helper: nodes, constants, inputs and outputs."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

# The newest opset and file format that ONNX Runtime's CPU and CUDA kernels for
# LSTM, GRU and Scan take together.
OPSET = 22
IR_VERSION = 10
INT64 = int(onnx.TensorProto.INT64)


class TensorInfo(NamedTuple):
    """An input or output: its name, NumPy dtype and one name or size for each axis."""

    name: str
    dtype: str
    axes: tuple[str | int, ...]


class GraphBuilder:
    """Collects nodes and constants; every value is known by its name.

    Args:
        prefix: of all names but inputs and outputs; a Scan's body shares one
            name space with the graph around it.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self.inputs: list[TensorInfo] = []
        self.outputs: list[TensorInfo] = []
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._counts: dict[str, int] = {}

    def input(self, name: str, dtype: str, axes: Sequence[str | int]) -> str:
        """Declares an input and returns its name."""
        self.inputs.append(TensorInfo(name, dtype, tuple(axes)))
        return name

    def output(self, value: str, name: str, dtype: str, axes: Sequence[str | int]) -> None:
        """Declares a value as the output of that name."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=f"output_{name}"))
        self.outputs.append(TensorInfo(name, dtype, tuple(axes)))

    def constant(self, value: Any, dtype: str = "float32") -> str:  # noqa: ANN401 # array-like
        """Adds a constant, once for equal contents, and returns its name."""
        array: NDArray[Any] = np.ascontiguousarray(np.asarray(value, dtype=dtype))
        key = f"{array.dtype}{array.shape}{array.tobytes().hex() if array.size < 64 else ''}"
        if array.size < 64 and key in self._constants:
            return self._constants[key].name
        name = self._unique("constant")
        self._constants[key if array.size < 64 else name] = numpy_helper.from_array(array, name)
        return name

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:  # noqa: ANN401 # ONNX's kinds
        """Adds a node with one output and returns its name."""
        return self.add_many(op, inputs, 1, **attributes)[0]

    def add_many(
        self,
        op: str,
        inputs: Sequence[str],
        outputs: int,
        **attributes: Any,  # noqa: ANN401 # ONNX's kinds
    ) -> list[str]:
        """Adds a node with several outputs and returns their names."""
        name = self._unique(op.lower())
        names = [name] if outputs == 1 else [f"{name}_{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(op, list(inputs), names, name=name, **attributes))
        return names

    def reshape(self, value: str, shape: Sequence[int]) -> str:
        """Reshape; 0 keeps an axis, -1 infers one."""
        return self.add("Reshape", value, self.constant(shape, "int64"))

    def transpose(self, value: str, axes: Sequence[int]) -> str:
        """Transpose to the axes' order."""
        return self.add("Transpose", value, perm=list(axes))

    def body(self, name: str) -> onnx.GraphProto:
        """The graph as the body of a Scan: only its own nodes and constants."""
        return self._graph(name)

    def model(self, name: str, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """The finished model."""
        model = helper.make_model(
            self._graph(name),
            producer_name="tidegate",
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        helper.set_model_props(model, dict(metadata))
        return model

    def _graph(self, name: str) -> onnx.GraphProto:
        return helper.make_graph(
            self._nodes,
            name,
            [_value_info(info) for info in self.inputs],
            [_value_info(info) for info in self.outputs],
            initializer=list(self._constants.values()),
        )

    def _unique(self, stem: str) -> str:
        count = self._counts.get(stem, 0)
        self._counts[stem] = count + 1
        return f"{self._prefix}{stem}_{count}"


def _value_info(info: TensorInfo) -> onnx.ValueInfoProto:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(info.dtype))
    return helper.make_tensor_value_info(info.name, element, list(info.axes))
