"""The store of the runs: opened, and an experiment in it."""

import logging
import warnings
from pathlib import Path

import mlflow

SQLITE = "sqlite:///"


def open_store(uri: str, experiment: str) -> tuple[mlflow.MlflowClient, str]:
    """A client, and the experiment's id; the experiment is made when it is new."""
    for noisy in ("alembic", "mlflow.store", "mlflow.system_metrics", "mlflow.tracking"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    folder = _artifact_folder(uri)
    if folder is not None:
        folder.parent.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(uri)
    client = connect()
    known = client.get_experiment_by_name(experiment)
    location = folder.as_uri() if folder else None
    if known:
        return client, known.experiment_id
    return client, client.create_experiment(experiment, location)


def connect() -> mlflow.MlflowClient:
    """A client of the store that is set."""
    with warnings.catch_warnings():
        # MLflow 3.17's own use of SQLAlchemy 2.1; nothing that a user could change.
        warnings.filterwarnings("ignore", "The ``noload`` loader strategy", DeprecationWarning)
        return mlflow.MlflowClient()


def _artifact_folder(uri: str) -> Path | None:
    """Beside the database; None: the tracking server knows where."""
    if not uri.startswith(SQLITE):
        return None
    return Path(uri.removeprefix(SQLITE)).absolute().parent / "mlartifacts"
