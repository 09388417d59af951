"""From a trained model to one ONNX file, through the parity gate."""

import copy
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import onnx
from torch import nn

from tidegate.train.arguments import check_choice
from tidegate.train.export.builders import build_graph
from tidegate.train.export.contract import check_contract
from tidegate.train.export.half import halve_weights
from tidegate.train.export.half_arithmetic import with_half_arithmetic
from tidegate.train.export.mc_masks import check_masks
from tidegate.train.export.parity import measure_parity
from tidegate.train.export.quantization import quantize_weights
from tidegate.train.export.rebuild import rebuild
from tidegate.train.export.spec import (
    METADATA_KEY,
    Origin,
    build_spec,
    networks_of,
    scans_of,
    to_json,
)
from tidegate.train.forecaster import Forecaster
from tidegate.v1.model_spec_pb2 import ModelSpec

WeightFormat = Literal["float32", "float16", "int8"]
WEIGHT_FORMATS = ("float32", "float16", "int8")
_ROUND = {"float16": halve_weights, "int8": quantize_weights}
Judge = Callable[[nn.Module], Mapping[str, float]]


def export_onnx(
    model: nn.Module,
    path: str | Path,
    *,
    name: str = "",
    metrics: Mapping[str, float] | None = None,
    data_digest: str = "",
    git_commit: str = "",
    mlflow_run_id: str = "",
    weights: WeightFormat = "float32",
    judge: Judge | None = None,
    mc_masks: bool = False,
) -> ModelSpec:
    """Writes a model as one ONNX file with its ModelSpec inside.

    The graph holds no dropout: it is built from the weights and each
    regularizer's inference contract. The file is written only once ONNX
    Runtime has agreed with PyTorch, and in one piece.

    Args:
        model: a :class:`Recurrent`, :class:`Forecaster`, :class:`Labeller` or
            :class:`LanguageModel`.
        path: of the file; its folder is made.
        name: of the graph; empty: the file's stem.
        metrics: of the held-out part, for the spec.
        data_digest: SHA-256 of the training data, hexadecimal, for the spec.
        git_commit: for the spec.
        mlflow_run_id: for the spec.
        weights: "float32"; "int8": large matrices as whole numbers with a scale for
            each row, which the graph turns back, see
            :mod:`tidegate.train.export.quantization`; or "float16", in which recurrent
            operators compute too, see :mod:`tidegate.train.export.half`. Agreement is
            then that of the file with PyTorch on the rounded weights.
        judge: is given the model as the file holds it, for "float16" as it computes on a
            GPU, and returns the metrics for the spec, in the place of ``metrics``; or
            raises, and nothing is written.
        mc_masks: whether the masks per sequence of Monte Carlo inference are inputs;
            see :mod:`tidegate.train.export.mc_masks`. The graph draws nothing.

    Returns:
        The spec as written, with the parity measured.

    Raises:
        TypeError: the model is of another kind.
        ValueError: no weight matrix is large enough to be rounded, one is beyond
            float16, two variants are asked for, or the model has no masks that can be
            inputs.
        ContractError: the graph breaks the regularizers' inference contract.
        ParityError: ONNX Runtime and PyTorch disagree.
            After either nothing was written, and an older file is as it was.
    """
    check_choice("weights", weights, WEIGHT_FORMATS)
    if mc_masks and weights != "float32":
        raise ValueError(f"mc_masks=True with weights={weights!r}; a file is one variant: choose")
    path = Path(path)
    frozen = copy.deepcopy(model).eval().cpu().float()
    if mc_masks:
        _check_masks(frozen)
    graph = build_graph(frozen, mc_masks=mc_masks, folds_scale=weights != "float16")
    origin = Origin(metrics or {}, data_digest, git_commit, mlflow_run_id)
    spec = build_spec(frozen, graph, origin)
    spec.weights = weights
    onnx_model = graph.model(name or path.stem, {METADATA_KEY: to_json(spec)})
    if weights != "float32":
        onnx_model = _ROUND[weights](onnx_model)
        frozen = rebuild(onnx_model).model
    onnx.checker.check_model(onnx_model, full_check=True)
    check_contract(onnx_model, *networks_of(frozen), scans=scans_of(frozen), mc_masks=mc_masks)
    spec.parity.CopyFrom(measure_parity(frozen, spec, onnx_model.SerializeToString()))
    if judge is not None:
        spec.metrics.clear()
        computed = with_half_arithmetic(frozen) if weights == "float16" else frozen
        spec.metrics.update(judge(computed))
    onnx.helper.set_model_props(onnx_model, {METADATA_KEY: to_json(spec)})
    _write(path, onnx_model.SerializeToString())
    return spec


def _check_masks(model: nn.Module) -> None:
    if isinstance(model, Forecaster) and model.reads_segments:
        raise ValueError(
            "mc_masks=True with a forecaster of segments: rows of its network are not rows of the "
            "batch. Sample it in PyTorch with monte_carlo"
        )
    check_masks(*networks_of(model))


def _write(path: Path, file: bytes) -> None:
    """Writes in one piece: a reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(file)
        # mkstemp makes files private; a model is read by other users.
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
