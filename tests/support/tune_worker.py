"""One of several workers of a study, in a module that a new process can import."""

import torch

from tidegate.train.tune import tune


def work(recipe: str, output: str, trials: int) -> None:
    """Takes trials until the study has so many."""
    torch.set_num_threads(1)
    tune(recipe, output, {"tune.trials": trials})
