"""A small run that several processes train, how it starts and stops, and what came of it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

PYTHON = (sys.executable, "-m")
TORCHRUN = (*PYTHON, "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
# Ray's cluster is the test's own.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "RAY_ADDRESS": "local"}
# So many that a run is still under way when it is interrupted.
MANY_EPOCHS = {"training.epochs": 60, "training.patience": 60}
MANY_OPTIONS = tuple(f"--{name}={value}" for name, value in MANY_EPOCHS.items())


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


@contextmanager
def fit(
    launcher: Sequence[str], recipe: Path, output: Path, *arguments: str
) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [*launcher, "tidegate.train", "fit", str(recipe), "--output", str(output), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **ENVIRONMENT},
    ) as process:
        try:
            yield process
        finally:
            # It ends its own processes.
            process.terminate()


def interrupt(process: "subprocess.Popen[str]", output: Path) -> str:
    """Presses Ctrl-C in epoch 3 of `MANY_EPOCHS`; returns what the run prints as it is saved."""
    assert process.stdout is not None
    while "epoch 2/60" not in next(process.stdout):
        pass
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=100)
    assert "and saved; the same command with --resume goes on from there" in rest
    state = torch.load(output / "nouns" / "training.pt", weights_only=True)["training"]
    assert state["epoch"] < 60
    return rest


def assert_close(found: Path, expected: Path, *, atol: float) -> None:
    """That two runs have come to weights that differ by no more than `atol`."""
    weights = trained(expected)
    for name, weight in trained(found).items():
        torch.testing.assert_close(weight, weights[name], rtol=0, atol=atol)


def trained(output: Path) -> dict[str, Tensor]:
    """The weights of the checkpoint that a run wrote there."""
    weights: dict[str, Tensor] = torch.load(output / "nouns" / "model.pt")["weights"]
    return weights
