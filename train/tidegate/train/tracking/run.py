"""A run that is under way, and what is logged to it."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from matplotlib.figure import Figure
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric

from tidegate.train.plots import pixels
from tidegate.train.tracking.git import git_commit
from tidegate.train.tracking.registry import Registered, Score, register
from tidegate.train.tracking.store import open_store
from tidegate.v1 import model_spec_pb2 as pb

# Columns of MLflow's database are this wide.
_DIGEST_WIDTH = 36


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

    def log_file(self, path: Path, folder: str) -> None:
        """Logs a file as it is, into a folder of the run's artifacts."""
        self._client.log_artifact(self.id, str(path), folder)

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
        return register(self._client, self.id, path, spec, name, score)


@contextmanager
def start_run(
    uri: str,
    experiment: str,
    name: str,
    tags: Mapping[str, str],
    run_id: str | None = None,
    *,
    system_metrics: bool = False,
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
        system_metrics: whether MLflow samples those of the machine while the run lasts,
            every ``MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL`` seconds, 10 without it.
    """
    client, experiment_id = open_store(uri, experiment)
    commit = git_commit()
    source = {"mlflow.source.git.commit": commit} if commit else {}
    with mlflow.start_run(
        run_id,
        experiment_id=experiment_id,
        run_name=name,
        tags={**source, **tags},
        log_system_metrics=system_metrics,
    ) as active:
        try:
            yield Run(active.info.run_id, client, commit)
        except KeyboardInterrupt:
            mlflow.end_run("KILLED")
            raise
