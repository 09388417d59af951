"""A run that others are nested in."""

from collections.abc import Mapping
from pathlib import Path

import mlflow

from tidegate.train.tracking.store import connect, open_store

# MLflow's own name of what nests a run in another.
PARENT_TAG = "mlflow.parentRunId"


def begin_parent(uri: str, experiment: str, name: str) -> str:
    """Begins a run for others to be nested in, and leaves it open; returns its id."""
    client, experiment_id = open_store(uri, experiment)
    run_id: str = client.create_run(experiment_id, run_name=name).info.run_id
    return run_id


def finish_parent(uri: str, run_id: str, metrics: Mapping[str, float], file: Path) -> None:
    """Ends a run of :func:`begin_parent` with its metrics and a file."""
    mlflow.set_tracking_uri(uri)
    client = connect()
    for name, value in metrics.items():
        client.log_metric(run_id, name, value)
    client.log_artifact(run_id, str(file))
    client.set_terminated(run_id)
