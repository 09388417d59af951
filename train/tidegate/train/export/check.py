"""Passes a finished file through the gates again."""

import copy
import math
from pathlib import Path
from typing import Any, NamedTuple

import onnx
from google.protobuf import json_format
from torch import nn

from tidegate.train.export.builders import build_graph
from tidegate.train.export.contract import check_contract
from tidegate.train.export.parity import Provider, measure_parity
from tidegate.train.export.rebuild import rebuild
from tidegate.train.export.spec import Origin, build_spec, networks_of, scans_of
from tidegate.v1 import model_spec_pb2 as pb

# What a spec says of the model, and not of its history.
_MODEL_FIELDS = (
    "task",
    "direction",
    "network",
    "inputs",
    "outputs",
    "states",
    "forecast",
    "labelling",
    "language_model",
    "regularizers",
    "contract",
    "masks",
)


class Checked(NamedTuple):
    """What a check has found.

    Attributes:
        spec: of the file, with the parity of its export.
        parity: measured now.
    """

    spec: pb.ModelSpec
    parity: pb.Parity


def check_file(
    path: str | Path, model: nn.Module | None = None, provider: Provider = "cpu"
) -> Checked:
    """Checks an exported file as the exporter did.

    Without a model it is compared with one rebuilt from the file's own weights
    and spec: the graph then computes the published equations, and the spec is
    that of the graph. With the trained model its weights are compared too.

    Args:
        path: of the file.
        model: that the file should be an export of; None: what the file holds.
        provider: on which ONNX Runtime runs the file.

    Raises:
        ValueError: the file is no export, or its spec contradicts the model or
            the graph; names the field.
        ContractError: the graph breaks the regularizers' inference contract.
        ParityError: ONNX Runtime and PyTorch disagree.
    """
    content = _read(Path(path))
    file = onnx.load_from_string(content)
    rebuilt = rebuild(file)
    reference = rebuilt.model if model is None else copy.deepcopy(model).eval().cpu().float()
    mc_masks = bool(rebuilt.spec.masks)
    expected = build_spec(
        reference, build_graph(reference, mc_masks=mc_masks), Origin({}, "", "", "")
    )
    _compare_specs(rebuilt.spec, expected)
    _compare_tensors("input", rebuilt.spec.inputs, file.graph.input)
    _compare_tensors("output", rebuilt.spec.outputs, file.graph.output)
    check_contract(file, *networks_of(reference), scans=scans_of(reference), mc_masks=mc_masks)
    return Checked(rebuilt.spec, measure_parity(reference, rebuilt.spec, content, provider))


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError(f"{str(path)!r} is no file; export_onnx writes one")
    content = path.read_bytes()
    try:
        onnx.checker.check_model(content, full_check=True)
    except (
        ValueError,
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
    ) as error:
        raise ValueError(f"{str(path)!r} is no valid ONNX file: {error}") from error
    return content


def _compare_specs(found: pb.ModelSpec, expected: pb.ModelSpec) -> None:
    ours, theirs = (
        json_format.MessageToDict(spec, always_print_fields_with_no_presence=True)
        for spec in (expected, found)
    )
    for name in _MODEL_FIELDS:
        if not _agrees(theirs.get(name), ours.get(name)):
            raise ValueError(
                f"spec.{name} is {theirs.get(name)} in the file, that of the model is "
                f"{ours.get(name)}"
            )


def _agrees(found: Any, expected: Any) -> bool:  # noqa: ANN401 # JSON
    """Whether what the file says is so; an older file may lack a field."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return all(_agrees(value, expected.get(key)) for key, value in found.items())
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(_agrees, found, expected))
    if isinstance(found, float) and isinstance(expected, float):
        # The model rounds to float32 what the spec holds as double.
        return math.isclose(found, expected, rel_tol=1e-6)
    unset = found == "" or str(found).endswith("_UNSPECIFIED")
    return unset or bool(found == expected)


def _compare_tensors(kind: str, declared: Any, actual: Any) -> None:  # noqa: ANN401 # repeated fields
    names, found = [one.name for one in declared], [one.name for one in actual]
    if names != found:
        raise ValueError(f"the spec declares the {kind}s {names}, the graph has {found}")
    for one, value in zip(declared, actual, strict=True):
        tensor = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
        shape = [size.dim_value or -1 for size in tensor.shape.dim]
        if (one.dtype, list(one.shape)) != (dtype, shape):
            raise ValueError(
                f"{kind} {one.name!r} is declared {one.dtype} {list(one.shape)}, the graph has "
                f"{dtype} {shape}"
            )
