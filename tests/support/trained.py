"""A trained model on disk, for the commands that take a checkpoint."""

from pathlib import Path
from typing import Any

from tidegate.train import checkpoint, job
from tidegate.train.build import build_model, load_data
from tidegate.train.config import Config


def trained_language_model(folder: Path, size: int, epochs: int, **model: Any) -> Path:
    """The checkpoint of a model of `size` units that has read two lines of text."""
    for part in ("a", "b", "c"):
        (folder / part).write_text("the tide comes in\nthe tide goes out\n" * 10)
    config = Config.model_validate(
        {
            "name": "tide",
            "task": "language_modelling",
            "dataset": {"name": "text", "path": folder, "files": ["a", "b", "c"]},
            "model": {"hidden_size": size, "num_layers": 1, "embedding_size": size, **model},
            "training": {"epochs": epochs, "lanes": 1, "bptt": 10, "learning_rate": 0.02},
        }
    )
    data = load_data(config)
    network = build_model(config, data)
    job.train(config, network, data)
    return checkpoint.save(folder / "model.pt", config, network)
