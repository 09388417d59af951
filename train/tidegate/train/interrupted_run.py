"""A run that has not ended, on disk: what ``tidegate-train fit --resume`` goes on from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tidegate.train.config import Config

FILE_NAME = "training.pt"


class InterruptedRun(NamedTuple):
    """What is needed to go on.

    Attributes:
        run_id: MLflow's.
        training: from :meth:`tidegate.train.fit.state.TrainingState.state_dict`.
    """

    run_id: str
    training: Mapping[str, Any]


def save(path: Path, config: Config, data_digest: str, run: InterruptedRun) -> None:
    """Writes a run in one piece: the file is the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    content = {
        "config": config.flat(),
        "data_digest": data_digest,
        "run_id": run.run_id,
        "training": run.training,
    }
    torch.save(content, temporary)
    temporary.replace(path)


def load(path: Path, config: Config, data_digest: str) -> InterruptedRun:
    """Reads a run; only tensors, numbers and texts are unpacked.

    Raises:
        ValueError: there is none, or it had another configuration or other data.
    """
    if not path.is_file():
        raise ValueError(f"there is no interrupted run in {path.parent}; leave --resume out")
    content = torch.load(path, map_location="cpu", weights_only=True)
    old, new = content["config"], config.flat()
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    if changed:
        raise ValueError(
            f"{path} is of a run with another {', '.join(changed)}; give it the same settings, or "
            "leave --resume out to begin anew"
        )
    if content["data_digest"] != data_digest:
        raise ValueError(
            f"the data of {config.dataset.name!r} has changed since {path} was written; leave "
            "--resume out to begin anew"
        )
    return InterruptedRun(content["run_id"], content["training"])
