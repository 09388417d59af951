"""A thin builder over onnx.helper: nodes, constants, inputs and outputs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

# The newest opset and file format that ONNX Runtime's CPU and CUDA kernels for
# LSTM, GRU and Scan take together.
OPSET = 22
IR_VERSION = 10
FLOAT32 = int(onnx.TensorProto.FLOAT)
INT64 = int(onnx.TensorProto.INT64)
INT32 = int(onnx.TensorProto.INT32)


class TensorInfo(NamedTuple):
    """An input or output: its name, NumPy dtype and one name or size for each axis."""

    name: str
    dtype: str
    axes: tuple[str | int, ...]


class GraphBuilder:
    """Collects nodes and constants; every value is known by its name.

    Args:
        prefix: of all names but inputs and outputs; the body of a Scan and the
            branches of an If share one name space with the graph around them.
        outer: the graph around this one, which keeps the constants of both, so
            that two branches hold one copy of the weights.
        mc_masks: whether masks of Monte Carlo inference are inputs.
        folds_scale: whether a forecaster's scale stands in the first weights, where it
            saves a node a step, and not in a node of its own.
    """

    def __init__(
        self,
        prefix: str = "",
        outer: "GraphBuilder | None" = None,
        *,
        mc_masks: bool = False,
        folds_scale: bool = True,
    ) -> None:
        self.mc_masks = mc_masks
        self.folds_scale = folds_scale
        self._prefix = prefix
        self._outer = outer
        self.inputs: list[TensorInfo] = []
        self.outputs: list[TensorInfo] = []
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._counts: dict[str, int] = {}
        self._renamed: dict[str, str] = {}
        self._scope = ""

    @contextmanager
    def scope(self, prefix: str) -> Iterator[None]:
        """Puts a prefix before the names of parameters, for a second network of the kind."""
        before, self._scope = self._scope, self._scope + prefix
        try:
            yield
        finally:
            self._scope = before

    def inner(self, prefix: str) -> "GraphBuilder":
        """A graph inside this one: it may use this one's values by their names."""
        return GraphBuilder(prefix, self)

    def input(self, name: str, dtype: str, axes: Sequence[str | int]) -> str:
        """Declares an input and returns its name."""
        self.inputs.append(TensorInfo(name, dtype, tuple(axes)))
        return name

    def output(self, value: str, name: str, dtype: str, axes: Sequence[str | int]) -> None:
        """Declares a value as the output of that name."""
        if not self._rename(value, name):
            source = self._renamed.get(value, value)
            self._nodes.append(
                helper.make_node("Identity", [source], [name], name=f"output_{name}")
            )
        self.outputs.append(TensorInfo(name, dtype, tuple(axes)))

    def constant(
        self,
        value: Any,  # noqa: ANN401 # array-like
        dtype: str = "float32",
        *,
        name: str = "",
    ) -> str:
        """Adds a constant and returns its name.

        Args:
            value: of the constant.
            dtype: NumPy's.
            name: of a parameter, by which it is found again; added once. Empty: a
                new name, or that of an earlier small constant of the same value.
        """
        if name:
            name = self._scope + name
        if self._outer is not None:
            return self._outer.constant(value, dtype, name=name)
        array: NDArray[Any] = np.ascontiguousarray(np.asarray(value, dtype=dtype))
        key = name or f"{array.dtype}{array.shape}{array.tobytes().hex()}"
        if key not in self._constants:
            tensor = numpy_helper.from_array(array, name or self._unique("constant"))
            self._constants[key] = tensor
        return self._constants[key].name

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
        inputs = [self._renamed.get(value, value) for value in inputs]
        name = self._unique(op.lower())
        names = [name] if outputs == 1 else [f"{name}_{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(op, inputs, names, name=name, **attributes))
        return names

    def reshape(self, value: str, shape: Sequence[int]) -> str:
        """Reshape; 0 keeps an axis, -1 infers one."""
        return self.add("Reshape", value, self.constant(shape, "int64"))

    def transpose(self, value: str, axes: Sequence[int]) -> str:
        """Transpose to the axes' order."""
        return self.add("Transpose", value, perm=list(axes))

    def split(self, value: str, sizes: Sequence[int]) -> list[str]:
        """Split of the last axis."""
        if len(set(sizes)) == 1:
            return self.add_many("Split", [value], len(sizes), axis=-1, num_outputs=len(sizes))
        parts = self.constant(sizes, "int64")
        return self.add_many("Split", [value, parts], len(sizes), axis=-1)

    def body(self, name: str) -> onnx.GraphProto:
        """The graph as the body of a Scan or the branch of an If."""
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

    def _rename(self, value: str, name: str) -> bool:
        """Whether a node here makes the value; ORT drops no Identity from an inner graph."""
        if not any(value in node.output for node in self._nodes):
            return False
        self._renamed[value] = name
        for node in self._nodes:
            for names in (node.input, node.output):
                names[:] = [name if one == value else one for one in names]
        return True

    def _unique(self, stem: str) -> str:
        count = self._counts.get(stem, 0)
        self._counts[stem] = count + 1
        return f"{self._prefix}{stem}_{count}"


def _value_info(info: TensorInfo) -> onnx.ValueInfoProto:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(info.dtype))
    return helper.make_tensor_value_info(info.name, element, list(info.axes))
