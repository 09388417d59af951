"""The loop: epochs of gradient steps, a validation after each, the best weights at the end."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from tidegate.train.fit.averaging import NonMonotonicAveraging
from tidegate.train.fit.interrupt import Interrupted, Interruption
from tidegate.train.fit.optimization import Optimization
from tidegate.train.fit.progress import Progress
from tidegate.train.fit.state import TrainingState
from tidegate.train.fit.stopping import EarlyStopping
from tidegate.train.fit.task import Epoch, Fitted, Task


class TrainingError(RuntimeError):
    """Training cannot go on."""


def fit(
    task: Task,
    optimization: Optimization,
    *,
    epochs: int,
    patience: int = 8,
    after_epoch: Sequence[Callable[[Epoch], None]] = (),
    title: str = "training",
    resume: Mapping[str, Any] | None = None,
    save: Callable[[dict[str, Any]], None] | None = None,
) -> Fitted:
    """Trains until the validation metric no longer improves.

    Args:
        task: model and data.
        optimization: of the gradient steps.
        epochs: at most.
        patience: epochs without a better metric before it stops.
        after_epoch: called in turn with each epoch, the model in evaluation mode.
        title: of the progress bar.
        resume: what an earlier run gave to ``save``; this one goes on from there, to
            weights that are, on a CPU, bit for bit those of an uninterrupted run.
        save: takes the state of training after every epoch, and at SIGINT.

    Raises:
        TrainingError: the loss or the gradient is not finite, naming the step.
        Interrupted: SIGINT came, and the state was saved. Without ``save`` SIGINT
            has its usual effect.
    """
    state = begin(task, optimization, epochs, patience)
    if resume is not None:
        state.load_state_dict(resume)
    progress = Progress(title, epochs, task.monitor)
    with progress, Interruption() if save else nullcontext() as interruption:

        def pause() -> None:
            if save and interruption and interruption.requested:
                save(state.state_dict())
                raise Interrupted(state.epoch, state.step)

        while state.epoch <= epochs and not state.stopping.should_stop(state.epoch - 1):
            began = time.monotonic()
            train_epoch(state, optimization.clip, pause)
            epoch = validate_epoch(state, after_epoch)
            state.seconds += time.monotonic() - began
            progress.advance(epoch.number, epoch.metrics, is_best=epoch.is_best)
            if save:
                save(state.state_dict())
            pause()
    best_epoch = state.stopping.restore()
    task.model.eval()
    return Fitted(
        epochs=tuple(state.history),
        best_epoch=best_epoch,
        monitor=task.monitor,
        higher_is_better=task.higher_is_better,
        seconds=state.seconds,
    )


def begin(task: Task, optimization: Optimization, epochs: int, patience: int) -> TrainingState:
    """The state before the first step."""
    higher_is_better = task.higher_is_better
    optimizer = optimization.build_optimizer(task.model)
    averaging = None
    if optimization.average:
        averaging = NonMonotonicAveraging(
            task.model, optimization.non_monotone_interval, higher_is_better=higher_is_better
        )
    return TrainingState(
        task,
        optimizer,
        optimization.build_schedule(optimizer, epochs, higher_is_better=higher_is_better),
        EarlyStopping(task.model, patience, higher_is_better=higher_is_better),
        averaging,
    )


def train_epoch(state: TrainingState, clip: float, after_step: Callable[[], None]) -> None:
    """Takes the steps that are left of the epoch under way."""
    model = state.task.model
    model.train()
    for loss in state.task.losses(state.epoch, state.step):
        state.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it without a signature
        norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
        value = float(loss.detach())
        _check_finite(state.epoch, state.step + 1, value, float(norm))
        state.optimizer.step()
        if state.averaging:
            state.averaging.after_step()
        state.step += 1
        state.total_loss += value
        after_step()


def validate_epoch(state: TrainingState, after_epoch: Sequence[Callable[[Epoch], None]]) -> Epoch:
    """Ends the epoch under way, with the mean of the weights where they are averaged."""
    task, averaging = state.task, state.averaging
    with averaging.applied() if averaging else nullcontext():
        task.model.eval()
        with torch.no_grad():
            validated = task.validate()
        score = validated[task.monitor]
        metrics = {"train_loss": state.total_loss / max(state.step, 1), **validated}
        epoch = Epoch(state.epoch, metrics, state.stopping.update(state.epoch, score))
        for call in after_epoch:
            call(epoch)
    state.schedule.step(score)
    if averaging:
        averaging.after_epoch(score)
    state.history.append(epoch)
    state.epoch, state.step, state.total_loss = state.epoch + 1, 0, 0.0
    return epoch


def _check_finite(epoch: int, step: int, loss: float, norm: float) -> None:
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise TrainingError(
            f"epoch {epoch}, step {step}: the loss is {loss} and the norm of the gradient {norm}; "
            "lower training.learning_rate or training.clip, and look for values that are not "
            "finite in the data"
        )
