"""One process of data-parallel training, in a module that a new process can import."""

from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from support.recurrent_cases import Case, inputs
from tidegate.train import Recurrent, WeightDrop, Zaremba, Zoneout

ROWS = 4


def build() -> Recurrent:
    """The same network in every process."""
    return Case("lstm", layers=2).build(Zaremba(0.3), Zoneout(), WeightDrop(0.3))


def train_on_half(rank: int, store_file: str, folder: str) -> None:
    """Takes one of two halves of a batch and writes the gradients to ``<rank>.pt``."""
    store = Path(store_file).as_uri()
    distributed.init_process_group("gloo", store, rank=rank, world_size=2)
    model, half = build(), ROWS // 2
    first = rank * half
    parallel = DistributedDataParallel(model)
    output, _ = parallel(inputs(ROWS, 5)[first : first + half], sample_offset=first)
    output.square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    torch.save(gradients, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()
