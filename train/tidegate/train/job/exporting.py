"""The step that writes the ONNX file."""

from pathlib import Path
from typing import Any

from torch import nn

from tidegate.train import tracking
from tidegate.train.accuracy import TOLERANCE, build_judge, build_mc_judge
from tidegate.train.config import Config
from tidegate.train.export import WeightFormat, export_onnx
from tidegate.train.tasks import Data, Evaluation
from tidegate.v1.model_spec_pb2 import ModelSpec


def export(
    config: Config,
    model: nn.Module,
    data: Data,
    evaluation: Evaluation[Any],
    path: str | Path,
    tracked: tracking.Run | None = None,
    *,
    weights: WeightFormat = "float32",
    mc_masks: bool = False,
    tolerance: float = TOLERANCE,
) -> ModelSpec:
    """Writes the ONNX file, once ONNX Runtime agrees with PyTorch.

    Args:
        config: of the run.
        model: trained.
        data: of the run.
        evaluation: of the test part, for the spec.
        path: of the file.
        tracked: gets the parity; None: nowhere.
        weights: "float32", or "float16" or "int8", which are judged by the validation
            metric; the spec then has the test scores of the rounded weights.
        mc_masks: whether masks of Monte Carlo inference are inputs; the spec then has the
            test scores of the mean of ten networks, whose validation scores are judged.
        tolerance: share by which rounded weights may make that metric worse, or scores
            of those networks differ from the trained model's.

    Raises:
        ValueError: both variants are asked for.
        AccuracyError: they make it worse by more; nothing was written.
        ParityError: it does not; nothing was written.
    """
    judge = None
    if mc_masks:
        judge = build_mc_judge(config, model, data, tolerance)
    elif weights != "float32":
        judge = build_judge(config, model, data, tolerance, weights)
    spec = export_onnx(
        model,
        path,
        name=config.name,
        metrics=evaluation.metrics,
        data_digest=data.digest(),
        git_commit=tracked.git_commit if tracked else "",
        mlflow_run_id=tracked.id if tracked else "",
        weights=weights,
        mc_masks=mc_masks,
        judge=judge,
    )
    if tracked is not None:
        tracked.log_metrics(tracking.parity_metrics(spec))
    return spec
