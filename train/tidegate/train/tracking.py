"""Runs, metrics and models in MLflow: the one file that knows it."""

import hashlib
import logging
import os
import shutil
import subprocess
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

# MLflow reads the switch of its telemetry while it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
import numpy as np
import onnx
import pandas as pd
from matplotlib.figure import Figure
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from tidegate.train.plots import pixels
from tidegate.v1 import model_spec_pb2 as pb

with warnings.catch_warnings():
    # MLflow warns of type hints of its own while these are imported.
    warnings.filterwarnings("ignore", ".*Any type hint is inferred as AnyType", UserWarning)
    import mlflow.onnx
    import mlflow.pyfunc

CHAMPION = "champion"
# MLflow's own name of what nests a run in another.
PARENT_TAG = "mlflow.parentRunId"
SQLITE = "sqlite:///"
# What a loaded model needs; without the list MLflow takes seconds to guess a wrong one.
REQUIREMENTS = ["onnx", "onnxruntime"]
# Columns of MLflow's database are this wide.
_DIGEST_WIDTH = 36


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


class Run:
    """An MLflow run that is under way; made by :func:`start_run`.

    Attributes:
        id: MLflow's.
        git_commit: of the working directory; empty outside a repository.
    """

    def __init__(self, run_id: str, client: mlflow.MlflowClient, git_commit: str) -> None:
        self.id = run_id
        self.git_commit = git_commit
        self._client = client

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Logs the metrics of one step in one request."""
        now = int(time.time() * 1000)
        entities = [Metric(name, float(value), now, step) for name, value in metrics.items()]
        self._client.log_batch(self.id, metrics=entities)

    def log_config(self, config: Mapping[str, Any], parameters: Mapping[str, str]) -> None:
        """Logs the resolved configuration, whole as a file and flat as parameters."""
        self._client.log_dict(self.id, dict(config), "config.json")
        mlflow.log_params(dict(parameters))

    def set_tag(self, name: str, value: str) -> None:
        """Sets a tag of the run."""
        self._client.set_tag(self.id, name, value)

    def log_dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Logs which data was used.

        Args:
            name: of the data set.
            digest: sha256, hex; whole in the tag ``data_digest``.
            source: where it comes from, in words.
            context: what it was used for, such as "training".
        """
        origin = CodeDatasetSource({"source": source, "sha256": digest})
        dataset = MetaDataset(origin, name, digest[:_DIGEST_WIDTH])  # type: ignore[abstract] # MLflow leaves `profile`, which it never calls here, undefined
        mlflow.log_input(dataset, context=context)
        self._client.set_tag(self.id, "data_digest", digest)

    def log_picture(self, key: str, figure: Figure, step: int) -> None:
        """Logs one picture of a row that MLflow shows over the steps."""
        self._client.log_image(self.id, pixels(figure), key=key, step=step, synchronous=True)

    def log_figure(self, figure: Figure, file: str) -> None:
        """Logs a figure of the report."""
        self._client.log_figure(self.id, figure, file)

    def log_table(self, table: pd.DataFrame, file: str) -> None:
        """Logs a table; the file's name ends in ``.json``."""
        # As objects: MLflow's own selection of columns warns about pandas' new texts.
        self._client.log_table(self.id, table.astype(object), file)

    def register(self, path: Path, spec: pb.ModelSpec, name: str, score: Score) -> Registered:
        """Logs an exported model and registers it as a new version.

        The version carries the tags ``sha256`` (of the file), ``parity_max_abs``,
        ``parity_max_rel`` and the score, since MLflow checks no artifact.

        Args:
            path: of the ONNX file.
            spec: of the file.
            name: of the registered model; made when it is new.
            score: decides about the alias ``champion``.
        """
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
            **_to_tags(score),
        }
        self._make_registered_model(name)
        version = str(
            self._client.create_model_version(
                name, f"models:/{logged.model_id}", self.id, tags, model_id=logged.model_id
            ).version
        )
        return self._judge(name, version, score)

    def _judge(self, name: str, version: str, score: Score) -> Registered:
        """Moves the alias if the version deserves it; the reason becomes a tag."""
        is_champion, reason = compare(score, self._champion(name))
        if is_champion:
            self._client.set_registered_model_alias(name, CHAMPION, version)
        self._client.set_model_version_tag(name, version, "champion_reason", reason)
        return Registered(name, version, is_champion, reason)

    def _make_registered_model(self, name: str) -> None:
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _champion(self, name: str) -> ModelVersion | None:
        aliases = self._client.get_registered_model(name).aliases
        if CHAMPION not in aliases:
            return None
        return self._client.get_model_version(name, aliases[CHAMPION])


@contextmanager
def start_run(
    uri: str, experiment: str, name: str, tags: Mapping[str, str], run_id: str | None = None
) -> Iterator[Run]:
    """Begins a run; it ends with the block, as failed if the block raises.

    A KeyboardInterrupt ends it as killed.

    Args:
        uri: of the tracking server, or a file: ``sqlite:///.tidegate/mlflow.db``,
            beside which the artifacts go, into ``mlartifacts``.
        experiment: its name; made when it is new.
        name: of the run.
        tags: further ones.
        run_id: of a run to go on with; None: a new one.
    """
    client, experiment_id = _open(uri, experiment)
    commit = git_commit()
    source = {"mlflow.source.git.commit": commit} if commit else {}
    with mlflow.start_run(
        run_id, experiment_id=experiment_id, run_name=name, tags={**source, **tags}
    ) as active:
        try:
            yield Run(active.info.run_id, client, commit)
        except KeyboardInterrupt:
            mlflow.end_run("KILLED")
            raise


def begin_parent(uri: str, experiment: str, name: str) -> str:
    """Begins a run for others to be nested in, and leaves it open; returns its id."""
    client, experiment_id = _open(uri, experiment)
    run_id: str = client.create_run(experiment_id, run_name=name).info.run_id
    return run_id


def finish_parent(uri: str, run_id: str, metrics: Mapping[str, float], file: Path) -> None:
    """Ends a run of :func:`begin_parent` with its metrics and a file."""
    mlflow.set_tracking_uri(uri)
    client = _connect()
    for name, value in metrics.items():
        client.log_metric(run_id, name, value)
    client.log_artifact(run_id, str(file))
    client.set_terminated(run_id)


def _open(uri: str, experiment: str) -> tuple[mlflow.MlflowClient, str]:
    """A client, and the experiment's id; the experiment is made when it is new."""
    for noisy in ("alembic", "mlflow.store", "mlflow.tracking"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    folder = _artifact_folder(uri)
    if folder is not None:
        folder.parent.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(uri)
    client = _connect()
    known = client.get_experiment_by_name(experiment)
    location = folder.as_uri() if folder else None
    if known:
        return client, known.experiment_id
    return client, client.create_experiment(experiment, location)


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


def git_commit() -> str:
    """The commit that the working directory stands on; empty outside a repository."""
    git = shutil.which("git")
    if git is None:
        return ""
    answer = subprocess.run(  # noqa: S603 - fixed arguments
        [git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _connect() -> mlflow.MlflowClient:
    with warnings.catch_warnings():
        # MLflow 3.17's own use of SQLAlchemy 2.1; nothing that a user could change.
        warnings.filterwarnings("ignore", "The ``noload`` loader strategy", DeprecationWarning)
        return mlflow.MlflowClient()


def _artifact_folder(uri: str) -> Path | None:
    """Beside the database; None: the tracking server knows where."""
    if not uri.startswith(SQLITE):
        return None
    return Path(uri.removeprefix(SQLITE)).absolute().parent / "mlartifacts"


def _to_tags(score: Score) -> dict[str, str]:
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
