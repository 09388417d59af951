"""Where training stands: everything that the next step depends on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from tidegate.train.fit.averaging import NonMonotonicAveraging
from tidegate.train.fit.compute import Compute
from tidegate.train.fit.schedules import Schedule
from tidegate.train.fit.stopping import EarlyStopping
from tidegate.train.fit.task import Epoch, Task
from tidegate.train.recurrent import Recurrent


@dataclass
class TrainingState:
    """The moving parts of a run, and its place in the data.

    Two runs with equal states take the same next step, bit for bit on a CPU: the
    order of the data follows from the epoch, the masks from their counters.

    Attributes:
        task: model and data.
        optimizer: of the model.
        schedule: of the learning rate.
        stopping: holds the best weights.
        averaging: of the weights; None: no averaging.
        compute: device and precision.
        scaler: of the gradients.
        history: epochs that have ended.
        epoch: the one under way, from 1.
        step: steps of it that are done.
        total_loss: their sum.
        seconds: of wall-clock time, before this process.
    """

    task: Task
    optimizer: Optimizer
    schedule: Schedule
    stopping: EarlyStopping
    averaging: NonMonotonicAveraging | None
    compute: Compute = field(default_factory=Compute)
    scaler: GradScaler = field(init=False)
    history: list[Epoch] = field(default_factory=list)
    epoch: int = 1
    step: int = 0
    total_loss: float = 0.0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        """Begins with a scale of its own."""
        self.scaler = self.compute.build_scaler()

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and texts in dicts and lists, for ``torch.save``."""
        return {
            "model": self.task.model.state_dict(),
            "masks": [[one.seed, one.step] for one in self._recurrent()],
            "task": self.task.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "stopping": self.stopping.state_dict(),
            "averaging": self.averaging.state_dict() if self.averaging else None,
            "scaler": self.scaler.state_dict(),
            "generators": self._generators(),
            "history": [[one.number, one.metrics, one.is_best] for one in self.history],
            "epoch": self.epoch,
            "step": self.step,
            "total_loss": self.total_loss,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the place of another run, with torch's generator too."""
        self.task.model.load_state_dict(state["model"])
        for one, (seed, step) in zip(self._recurrent(), state["masks"], strict=True):
            one.seed, one.step = seed, step
        self.task.load_state_dict(state["task"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.stopping.load_state_dict(state["stopping"])
        if self.averaging:
            self.averaging.load_state_dict(state["averaging"])
        self.scaler.load_state_dict(state["scaler"])
        cpu, *cuda = state["generators"]
        torch.set_rng_state(cpu)
        if cuda and self.compute.device.type == "cuda":
            torch.cuda.set_rng_state(cuda[0], self.compute.device)
        self.history = [Epoch(*one) for one in state["history"]]
        self.epoch, self.step = state["epoch"], state["step"]
        self.total_loss, self.seconds = state["total_loss"], state["seconds"]

    def _generators(self) -> list[Tensor]:
        """The states of torch's generators: the CPU's, and the device's if it has one."""
        device = self.compute.device
        of_device = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
        return [torch.get_rng_state(), *of_device]

    def _recurrent(self) -> list[Recurrent]:
        return [one for one in self.task.model.modules() if isinstance(one, Recurrent)]
