"""A trained model on disk: its configuration and its weights.

Scaler, vocabulary and label names are not stored: they follow from the data
set that the configuration names.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from tidegate.train.build import build_model, load_data
from tidegate.train.config import Config
from tidegate.train.tasks import Data


class Loaded(NamedTuple):
    """What a checkpoint holds, ready to use.

    Attributes:
        config: of the run.
        data: loaded anew.
        model: with the stored weights, in evaluation mode.
    """

    config: Config
    data: Data
    model: nn.Module


def save(path: str | Path, config: Config, model: nn.Module) -> Path:
    """Writes a model in one piece; returns the path."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    torch.save({"config": config.model_dump_json(), "weights": model.state_dict()}, temporary)
    temporary.replace(file)
    return file


def load(path: str | Path) -> Loaded:
    """Reads a model; only tensors and texts are unpacked.

    Raises:
        ValueError: the file is missing or no checkpoint, or the data set has
            changed since.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"checkpoint={str(file)!r} is no file; `tidegate-train fit` writes one")
    content = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or content.keys() != {"config", "weights"}:
        raise ValueError(f"checkpoint={str(file)!r} was not written by `tidegate-train fit`")
    config = Config.model_validate_json(content["config"])
    data = load_data(config)
    model = build_model(config, data)
    try:
        model.load_state_dict(content["weights"])
    except RuntimeError as error:
        raise ValueError(
            f"checkpoint={str(file)!r} does not fit the data set {config.dataset.name!r} as it is "
            f"now: {error}"
        ) from error
    model.eval()
    return Loaded(config, data, model)
