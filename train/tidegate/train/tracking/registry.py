"""Models in the registry, and which of their versions is the champion."""

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import mlflow
import numpy as np
import onnx
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from tidegate.v1 import model_spec_pb2 as pb

with warnings.catch_warnings():
    # MLflow warns of type hints of its own while these are imported.
    warnings.filterwarnings("ignore", ".*Any type hint is inferred as AnyType", UserWarning)
    import mlflow.onnx
    import mlflow.pyfunc

CHAMPION = "champion"
# What a loaded model needs; without the list MLflow takes seconds to guess a wrong one.
REQUIREMENTS = ["onnx", "onnxruntime"]


class Score(NamedTuple):
    """What a model is judged by.

    Attributes:
        metric: name of a metric of the validation part.
        value: of the metric.
        higher_is_better: which way it improves.
        data_digest: of the data; scores on other data are not comparable.
    """

    metric: str
    value: float
    higher_is_better: bool
    data_digest: str

    def is_better_than(self, other: "Score") -> bool:
        """Whether the value is strictly better; for comparable scores."""
        if self.higher_is_better:
            return self.value > other.value
        return self.value < other.value

    def is_comparable_to(self, other: "Score") -> bool:
        """Whether both are of the same metric on the same data."""
        return (self.metric, self.data_digest) == (other.metric, other.data_digest)


class Registered(NamedTuple):
    """A model version in the registry.

    Attributes:
        name: of the registered model.
        version: "1", "2", ...
        is_champion: whether the alias ``champion`` moved here.
        reason: why it did, or did not.
    """

    name: str
    version: str
    is_champion: bool
    reason: str


def register(
    client: mlflow.MlflowClient,
    run_id: str,
    path: Path,
    spec: pb.ModelSpec,
    name: str,
    score: Score,
) -> Registered:
    """Does what :meth:`tidegate.train.tracking.Run.register` says, for the active run."""
    file = path.read_bytes()
    logged = mlflow.onnx.log_model(
        onnx.load_from_string(file),
        name="model",
        signature=signature(spec),
        pip_requirements=REQUIREMENTS,
        save_as_external_data=False,
    )
    tags = {
        "sha256": hashlib.sha256(file).hexdigest(),
        **{name: f"{value:.3g}" for name, value in parity_metrics(spec).items()},
        **to_tags(score),
    }
    _make_registered_model(client, name)
    version = str(
        client.create_model_version(
            name, f"models:/{logged.model_id}", run_id, tags, model_id=logged.model_id
        ).version
    )
    return _judge(client, name, version, score)


def _judge(client: mlflow.MlflowClient, name: str, version: str, score: Score) -> Registered:
    """Moves the alias if the version deserves it; the reason becomes a tag."""
    is_champion, reason = compare(score, _find_champion(client, name))
    if is_champion:
        client.set_registered_model_alias(name, CHAMPION, version)
    client.set_model_version_tag(name, version, "champion_reason", reason)
    return Registered(name, version, is_champion, reason)


def _make_registered_model(client: mlflow.MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _find_champion(client: mlflow.MlflowClient, name: str) -> ModelVersion | None:
    aliases = client.get_registered_model(name).aliases
    if CHAMPION not in aliases:
        return None
    return client.get_model_version(name, aliases[CHAMPION])


def compare(score: Score, champion: ModelVersion | None) -> tuple[bool, str]:
    """Whether a new version becomes champion, and why."""
    if champion is None:
        return True, "the first version"
    held = _from_tags(champion.tags)
    if held is None or not score.is_comparable_to(held):
        return False, (
            f"version {champion.version} was judged by another metric or on other data; "
            "compare the two and move the alias by hand"
        )
    values = f"{score.metric} {score.value:.6g} against {held.value:.6g} of {champion.version}"
    if score.is_better_than(held):
        return True, f"better: {values}"
    return False, f"no better: {values}"


def parity_metrics(spec: pb.ModelSpec) -> dict[str, float]:
    """The largest differences between PyTorch and ONNX Runtime, by MLflow's names."""
    return {
        "parity_max_abs": spec.parity.max_absolute_error,
        "parity_max_rel": spec.parity.max_relative_error,
    }


def signature(spec: pb.ModelSpec) -> ModelSignature:
    """MLflow's signature of a model; -1 marks the free axes, of any length.

    Written by hand: MLflow's own inference frees the layers and freezes the batch.
    """
    inputs, outputs = (
        Schema([TensorSpec(np.dtype(t.dtype), tuple(t.shape), t.name) for t in tensors])
        for tensors in (spec.inputs, spec.outputs)
    )
    return ModelSignature(inputs=inputs, outputs=outputs)


def to_tags(score: Score) -> dict[str, str]:
    """A score as the tags of a version."""
    return {
        "metric": score.metric,
        "metric_value": repr(score.value),
        "higher_is_better": str(score.higher_is_better).lower(),
        "data_digest": score.data_digest,
    }


def _from_tags(tags: Mapping[str, str]) -> Score | None:
    try:
        return Score(
            tags["metric"],
            float(tags["metric_value"]),
            tags["higher_is_better"] == "true",
            tags["data_digest"],
        )
    except (KeyError, ValueError):
        return None
