"""Files of float16: half the size, float32 at the borders, and what cannot be one."""

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn

from support.half_models import KINDS, Files
from support.large_models import MODELS, network
from tidegate.serve.inspection import describe
from tidegate.serve.model import load_model
from tidegate.serve.settings import Settings
from tidegate.train import ParityError, Recurrent, export_onnx
from tidegate.train.export import check_file
from tidegate.train.export.rebuild import rebuild

OPERATORS = {"LSTM", "GRU", "RNN"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_float16_passes_the_gate_again_and_is_served(kind: str, files: Files) -> None:
    path = files.path(kind)
    checked = check_file(path)
    assert checked.parity == checked.spec.parity
    assert dict(describe(checked.spec))["weights"] == "float16"
    loaded = load_model("m", "1", path, Settings(provider="cpu"))
    assert loaded.spec.weights == "float16"


@pytest.mark.parametrize("kind", MODELS)
def test_a_file_of_float16_has_about_half_the_size(kind: str, files: Files, tmp_path: Path) -> None:
    export_onnx(MODELS[kind].eval(), tmp_path / "float32.onnx")
    whole = (tmp_path / "float32.onnx").stat().st_size
    assert files.path(kind).stat().st_size < 0.56 * whole


def test_a_file_of_float16_is_not_that_of_the_trained_weights(files: Files) -> None:
    with pytest.raises(ParityError, match="differs between PyTorch and ONNX Runtime"):
        check_file(files.path("lstm"), MODELS["lstm"])


@pytest.mark.parametrize("kind", KINDS)
def test_recurrent_operators_compute_in_float16_and_nothing_else(kind: str, files: Files) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load(files.path(kind)))
    graph = model.graph
    borders = [*graph.input, *graph.output]
    assert all(one.type.tensor_type.elem_type != onnx.TensorProto.FLOAT16 for one in borders)
    halves = {one.name for one in graph.initializer if one.data_type == onnx.TensorProto.FLOAT16}
    inner = (*graph.value_info, *borders)
    halves |= {
        one.name for one in inner if one.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    }
    readers = {node.op_type for node in graph.node if halves & set(node.input)}
    assert readers - {"Cast"} <= OPERATORS
    for node in graph.node:
        if node.op_type in OPERATORS:
            read = [name for place, name in enumerate(node.input) if name and place != 4]
            assert halves >= {*read, *filter(None, node.output)}


def test_every_weight_is_the_nearest_of_float16(files: Files) -> None:
    rounded = rebuild(onnx.load(files.path("lstm"))).model
    for name, weight in MODELS["lstm"].named_parameters():
        assert torch.equal(rounded.get_parameter(name), weight.half().float())


def test_what_cannot_be_float16_is_refused_with_the_reason(tmp_path: Path) -> None:
    def export(model: nn.Module, **arguments: Any) -> None:
        export_onnx(model, tmp_path / "m.onnx", weights="float16", **arguments)

    with pytest.raises(ValueError, match="no weight matrix has 1024 values that float16 holds"):
        export(Recurrent("gru", 2, 3))
    large = network("gru")
    with torch.no_grad():
        large.get_parameter("weight_ih_l1")[0, 0] = 7e4
    with pytest.raises(ValueError, match="W_l1 holds 70000, beyond 65504, the largest number of"):
        export(large)
    with pytest.raises(ValueError, match="weights='float16'; a file is one variant: choose"):
        export(MODELS["gru"], mc_masks=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_passes_the_gate_of_float16(kind: str, files: Files) -> None:
    assert check_file(files.path(kind), provider="cuda").parity.cases > 0
