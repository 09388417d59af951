"""One of several workers of a study, in a module that a new process can import."""

from typing import Any

import torch

from tidegate.train.tune import tune


def work(recipe: str, output: str, settings: dict[str, Any]) -> None:
    """Takes trials until the study has enough."""
    torch.set_num_threads(1)
    tune(recipe, output, settings)
