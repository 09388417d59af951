"""Files of models: where they lie and how they are loaded, the spec in them, and their halves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
from google.protobuf import json_format
from onnx import helper
from onnxruntime.transformers import float16

from tidegate.serve.model import Model, load_model
from tidegate.serve.settings import Settings
from tidegate.v1 import model_spec_pb2 as pb

if TYPE_CHECKING:
    from pathlib import Path


def save(model: onnx.ModelProto, models: Path, name: str, version: str = "1") -> Path:
    """Writes `<models>/<name>/<version>/model.onnx` and returns its path."""
    path = models / name / version / "model.onnx"
    path.parent.mkdir(parents=True)
    onnx.save(model, path)
    return path


def load(models: Path, name: str, **settings: Any) -> Model:
    """Loads version 1 as the server does, for the CPU if `settings` do not say otherwise."""
    path = models / name / "1" / "model.onnx"
    return load_model(name, "1", path, Settings(**{"provider": "cpu", **settings}))


def set_spec(model: onnx.ModelProto, text: str) -> None:
    """Puts any text where the server looks for the spec."""
    helper.set_model_props(model, {"tidegate.spec": text})


def spec_of(model: onnx.ModelProto) -> pb.ModelSpec:
    text = next(p.value for p in model.metadata_props if p.key == "tidegate.spec")
    return json_format.Parse(text, pb.ModelSpec())


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in float16, with its inputs, outputs and states."""
    spec = spec_of(model)
    for tensor in (*spec.inputs, *spec.outputs):
        if tensor.dtype == "float32":
            tensor.dtype = "float16"
    halved: onnx.ModelProto = float16.convert_float_to_float16(model, keep_io_types=False)
    set_spec(halved, json_format.MessageToJson(spec))
    return halved
