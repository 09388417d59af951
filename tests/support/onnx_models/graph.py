"""Collects a graph and makes a model of it.

Legend: T time, B batch, H hidden, G gates, D directions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from google.protobuf import json_format
from onnx import TensorProto, helper, numpy_helper

from support.onnx_models.files import set_spec
from tidegate.v1 import model_spec_pb2 as pb

if TYPE_CHECKING:
    from numpy.typing import NDArray

GATES = {"lstm": 4, "gru": 3}
ONNX_TYPES = {
    "float32": TensorProto.FLOAT,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}


class GraphBuilder:
    """Collects nodes and seeded constants of one graph."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(seed)

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def weights(self, name: str, *shape: int, scale: float = 0.5) -> str:
        values = self._random.normal(0, scale, shape).astype(np.float32)
        return self.constant(name, values)

    def add(self, operator: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, list(outputs), **attributes))
        return outputs[0]

    def recurrent(
        self,
        cell: str,
        layer: int,
        x: str,
        width: int,
        hidden: int,
        states: list[str],
        *,
        bidirectional: bool = False,
    ) -> tuple[str, list[str]]:
        """Adds one LSTM or GRU node. x [T, B, width] -> y [T, D, B, H] and next states."""
        directions, gates = 1 + bidirectional, GATES[cell]
        prefix = f"{cell}_{layer}"
        inputs = [
            x,
            self.weights(f"{prefix}_W", directions, gates * hidden, width),
            self.weights(f"{prefix}_R", directions, gates * hidden, hidden),
            self.weights(f"{prefix}_B", directions, 2 * gates * hidden),
            "lengths",
            *states,
        ]
        outputs = [f"{prefix}_Y", f"{prefix}_h"] + ([f"{prefix}_c"] if cell == "lstm" else [])
        attributes: dict[str, Any] = {
            "hidden_size": hidden,
            "direction": "bidirectional" if bidirectional else "forward",
        }
        if cell == "gru":
            attributes["linear_before_reset"] = 1
        self.add(cell.upper(), inputs, *outputs, **attributes)
        return outputs[0], outputs[1:]

    def model(self, spec: pb.ModelSpec) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "tiny",
            [_value_info(tensor) for tensor in spec.inputs],
            [_value_info(tensor) for tensor in spec.outputs],
            self.initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
        set_spec(model, json_format.MessageToJson(spec))
        onnx.checker.check_model(model, full_check=True)
        return model


def _value_info(tensor: pb.TensorSpec) -> onnx.ValueInfoProto:
    shape = [
        axis if size < 0 else size for size, axis in zip(tensor.shape, tensor.axes, strict=True)
    ]
    return helper.make_tensor_value_info(tensor.name, ONNX_TYPES[tensor.dtype], shape)
