"""The loop: epochs of gradient steps, a validation after each, the best weights at the end."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from tidegate.train.fit.progress import Progress
from tidegate.train.fit.stopping import EarlyStopping


class TrainingError(RuntimeError):
    """Training cannot go on."""


class Task(Protocol):
    """What the loop trains: a model with its data."""

    @property
    def model(self) -> nn.Module:
        """The model; the loop changes its weights."""

    @property
    def monitor(self) -> str:
        """The validation metric that chooses the best epoch."""

    @property
    def higher_is_better(self) -> bool:
        """Which way the monitored metric improves."""

    def losses(self, epoch: int) -> Iterator[Tensor]:
        """The loss of one step after another; the loop steps before asking for the next."""

    def validate(self) -> dict[str, float]:
        """Metrics of the validation part, by name; called in evaluation mode."""


class Epoch(NamedTuple):
    """What one epoch came to.

    Attributes:
        number: from 1.
        metrics: by name; ``train_loss`` and what the task validates.
        is_best: whether the monitored metric is the best so far.
    """

    number: int
    metrics: dict[str, float]
    is_best: bool


class Fitted(NamedTuple):
    """What training came to; the model has the weights of the best epoch.

    Attributes:
        epochs: all of them, in order.
        best_epoch: the number of the best.
        monitor: the validation metric that chose it.
        higher_is_better: which way that metric improves.
        seconds: of wall-clock time.
    """

    epochs: tuple[Epoch, ...]
    best_epoch: int
    monitor: str
    higher_is_better: bool
    seconds: float

    @property
    def best(self) -> Epoch:
        """The epoch whose weights the model has."""
        return self.epochs[self.best_epoch - 1]


def fit(
    task: Task,
    *,
    epochs: int,
    learning_rate: float,
    weight_decay: float = 0.0,
    clip: float = 1.0,
    patience: int = 8,
    after_epoch: Sequence[Callable[[Epoch], None]] = (),
    title: str = "training",
) -> Fitted:
    """Trains with Adam until the validation metric no longer improves.

    The learning rate falls to a tenth along half a cosine.

    Args:
        task: model and data.
        epochs: at most.
        learning_rate: of Adam, at the beginning.
        weight_decay: decoupled, as in AdamW.
        clip: largest norm of the whole gradient.
        patience: epochs without a better metric before it stops.
        after_epoch: called in turn with each epoch, the model in evaluation mode.
        title: of the progress bar.

    Raises:
        TrainingError: the loss or the gradient is not finite, naming the step.
    """
    model = task.model
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=weight_decay)
    stopping = EarlyStopping(model, patience, higher_is_better=task.higher_is_better)
    history: list[Epoch] = []
    begin = time.monotonic()
    with Progress(title, epochs, task.monitor) as progress:
        for number in range(1, epochs + 1):
            _set_learning_rate(optimizer, learning_rate, (number - 1) / epochs)
            metrics = {"train_loss": _train(task, optimizer, number, clip), **_validate(task)}
            epoch = Epoch(number, metrics, stopping.update(number, metrics[task.monitor]))
            history.append(epoch)
            for call in after_epoch:
                call(epoch)
            progress.advance(epoch.number, epoch.metrics, is_best=epoch.is_best)
            if stopping.should_stop(number):
                break
    best_epoch = stopping.restore()
    model.eval()
    return Fitted(
        epochs=tuple(history),
        best_epoch=best_epoch,
        monitor=task.monitor,
        higher_is_better=task.higher_is_better,
        seconds=time.monotonic() - begin,
    )


def _train(task: Task, optimizer: torch.optim.Optimizer, epoch: int, clip: float) -> float:
    """One epoch of steps; returns their mean loss."""
    task.model.train()
    total, steps = 0.0, 0
    for step, loss in enumerate(task.losses(epoch), start=1):
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it without a signature
        norm = nn.utils.clip_grad_norm_(task.model.parameters(), clip)
        _check_finite(epoch, step, float(loss.detach()), float(norm))
        optimizer.step()
        total, steps = total + float(loss.detach()), step
    return total / max(steps, 1)


def _validate(task: Task) -> dict[str, float]:
    task.model.eval()
    with torch.no_grad():
        return task.validate()


def _check_finite(epoch: int, step: int, loss: float, norm: float) -> None:
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise TrainingError(
            f"epoch {epoch}, step {step}: the loss is {loss} and the norm of the gradient {norm}; "
            "lower training.learning_rate or training.clip, and look for values that are not "
            "finite in the data"
        )


def _set_learning_rate(optimizer: torch.optim.Optimizer, initial: float, progress: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = initial * (0.55 + 0.45 * math.cos(math.pi * progress))
