"""Runs, metrics and models in MLflow: the one package that knows it."""

import os

# MLflow reads the switch of its telemetry while it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from tidegate.train.tracking.git import git_commit
from tidegate.train.tracking.parent import PARENT_TAG, begin_parent, finish_parent
from tidegate.train.tracking.registry import (
    CHAMPION,
    Registered,
    Score,
    compare,
    parity_metrics,
    signature,
)
from tidegate.train.tracking.run import Run, start_run
from tidegate.train.tracking.store import SQLITE

__all__ = [
    "CHAMPION",
    "PARENT_TAG",
    "SQLITE",
    "Registered",
    "Run",
    "Score",
    "begin_parent",
    "compare",
    "finish_parent",
    "git_commit",
    "parity_metrics",
    "signature",
    "start_run",
]
