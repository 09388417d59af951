"""A small run that several processes train, and what came of it."""

from pathlib import Path

import torch
from torch import Tensor


def write_recipe(folder: Path, store_uri: str) -> Path:
    """Nouns, by a network with masks of two kinds and words dropped."""
    path = folder / "nouns.toml"
    path.write_text(
        'name = "nouns"\ntask = "labelling"\n[dataset]\nname = "homographs"\nsentences = 200\n'
        "[model]\nhidden_size = 5\nembedding_size = 6\nnum_layers = 2\nword_dropout = 0.1\n"
        'decoder = "crf"\nregularizers = [{name = "variational", p = 0.2}, '
        '{name = "weight_drop", p = 0.2}]\n'
        f'[training]\nepochs = 3\ntokens = 200\n[tracking]\nuri = "{store_uri}"\n'
    )
    return path


def trained(output: Path) -> dict[str, Tensor]:
    """The weights of its checkpoint."""
    weights: dict[str, Tensor] = torch.load(output / "nouns" / "model.pt")["weights"]
    return weights
