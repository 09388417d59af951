"""One of several processes that train together, in a module that a new process can import."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from support.training_tasks import StoppedAfter, forecasting, labelling, language_modelling, weights
from tidegate.train.fit import (
    Interrupted,
    Optimization,
    Processes,
    ProcessGroup,
    TrainingError,
    fit,
)

EPOCHS = 2
OPTIMIZATION = Optimization(learning_rate=0.01)
TASKS: dict[str, Callable[[], Any]] = {
    "forecasting": forecasting,
    "labelling": labelling,
    "language_modelling": language_modelling,
}


@dataclass
class BrokenAt:
    """A task whose loss is not finite at one step, in this process alone."""

    task: Any
    step: int

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def losses(self, epoch: int, start: int = 0) -> Any:
        for number, loss in enumerate(self.task.losses(epoch, start), start=1):
            yield loss * torch.nan if number == self.step else loss


def train(kind: str, processes: Processes) -> Tensor:
    """The weights after some epochs."""
    task = TASKS[kind]()
    fit(task, OPTIMIZATION, epochs=EPOCHS, patience=EPOCHS, processes=processes)
    return weights(task)


def take_part(rank: int, count: int, folder: str) -> None:
    """Trains in each way and writes what came of it to ``<rank>.pt``."""
    torch.set_num_threads(1)
    store = (Path(folder) / "store").as_uri()
    distributed.init_process_group("gloo", store, rank=rank, world_size=count)
    processes = ProcessGroup(torch.device("cpu"))
    came: dict[str, Any] = {kind: train(kind, processes) for kind in TASKS}
    came["stopped"], came["saved"] = stop(rank, processes)
    came["broken"] = break_down(rank, processes)
    came["gradients"] = unused(processes)
    torch.save(came, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


def stop(rank: int, processes: Processes) -> tuple[str, int]:
    """SIGINT reaches the last process alone."""
    task: Any = labelling()
    if rank == processes.count - 1:
        task = StoppedAfter(task, 2)
    saved: list[dict[str, Any]] = []
    before = signal.getsignal(signal.SIGINT)
    try:
        fit(task, OPTIMIZATION, epochs=EPOCHS, save=saved.append, processes=processes)
    except Interrupted as stopped:
        signal.signal(signal.SIGINT, before)
        return str(stopped), len(saved)
    return "not at all", len(saved)


def break_down(rank: int, processes: Processes) -> str:
    """The last process alone computes NaN, in its gradient too."""
    task: Any = labelling()
    if rank == processes.count - 1:
        task = BrokenAt(task, 3)
    try:
        fit(task, OPTIMIZATION, epochs=EPOCHS, processes=processes)
    except TrainingError as error:
        return str(error)
    return "not at all"


def unused(processes: Processes) -> list[bool]:
    """Which of two weights have a gradient, where the loss reads one of them."""
    model = nn.ParameterList([torch.ones(1), torch.ones(1)])
    model[0].sum().backward()
    processes.average_gradients(model)
    return [one.grad is not None for one in model]
