"""The loop: epochs of gradient steps, a validation after each, the best weights at the end."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from tidegate.train.fit.averaging import NonMonotonicAveraging
from tidegate.train.fit.compute import Compute
from tidegate.train.fit.interrupt import Interrupted
from tidegate.train.fit.optimization import Optimization
from tidegate.train.fit.processes import Processes
from tidegate.train.fit.progress import Progress
from tidegate.train.fit.state import TrainingState
from tidegate.train.fit.stopping import EarlyStopping
from tidegate.train.fit.task import Epoch, Fitted, Task, Validated


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
    compute: Compute | None = None,
    processes: Processes | None = None,
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
        save: takes the state of training after every epoch, and at SIGINT; of several
            processes in the first one.
        compute: device and precision; None: the CPU, fp32. The model is there
            afterwards too.
        processes: those that train this model together, of which every one calls
            this; None: this one alone.

    Raises:
        TrainingError: the loss or the gradient is not finite, naming the step.
        Interrupted: SIGINT came, and the state was saved. Without ``save`` SIGINT
            has its usual effect.
    """
    compute, processes = compute or Compute(), processes or Processes()
    task.model.to(compute.device)
    state = begin(task, optimization, epochs, patience, compute)
    if resume is not None:
        state.load_state_dict(resume)
    progress = Progress(title, epochs, task.monitor, is_shown=processes.is_first)
    stop = processes.interruption() if save else nullcontext()
    with progress, processes.split(task.model), stop as interruption:

        def keep() -> None:
            if save and processes.is_first:
                save(state.state_dict())

        def pause() -> None:
            if interruption and processes.any(interruption.requested):
                keep()
                raise Interrupted(state.epoch, state.step)

        while state.epoch <= epochs and not state.stopping.should_stop(state.epoch - 1):
            began = time.monotonic()
            train_epoch(state, optimization.clip, pause, processes)
            epoch = validate_epoch(state, after_epoch, processes)
            state.seconds += time.monotonic() - began
            progress.advance(epoch.number, epoch.metrics, is_best=epoch.is_best)
            keep()
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


def begin(
    task: Task,
    optimization: Optimization,
    epochs: int,
    patience: int,
    compute: Compute | None = None,
) -> TrainingState:
    """The state before the first step; the model is on the device."""
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
        compute or Compute(),
    )


def train_epoch(
    state: TrainingState, clip: float, after_step: Callable[[], None], processes: Processes
) -> None:
    """Takes the steps that are left of the epoch under way."""
    model, scaler = state.task.model, state.scaler
    model.train()
    for loss in _computed(state):
        state.optimizer.zero_grad()
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call] # torch leaves it without a signature
        processes.average_gradients(model)
        scaler.unscale_(state.optimizer)
        norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
        value = float(loss.detach())
        # A scaler skips the step of a gradient that its scale made infinite.
        _check_finite(
            state.epoch, state.step + 1, value, 0.0 if scaler.is_enabled() else float(norm)
        )
        scaler.step(state.optimizer)
        scaler.update()
        if state.averaging:
            state.averaging.after_step()
        state.step += 1
        state.total_loss += value
        after_step()


def _computed(state: TrainingState) -> Iterator[Tensor]:
    """The losses of the epoch under way, each computed when it is asked for, under autocast."""
    losses = state.task.losses(state.epoch, state.step)
    while True:
        # Not around the step too: its products are of float32.
        with state.compute.autocast():
            loss = next(losses, None)
        if loss is None:
            return
        yield loss


def validate_epoch(
    state: TrainingState, after_epoch: Sequence[Callable[[Epoch], None]], processes: Processes
) -> Epoch:
    """Ends the epoch under way, with the mean of the weights where they are averaged."""
    task, averaging = state.task, state.averaging
    with averaging.applied() if averaging else nullcontext():
        task.model.eval()
        with torch.no_grad():
            validated = task.validate() if processes.is_first else Validated({})
            # The first process's, so that all of them decide alike.
            scores = processes.of_first(validated.metrics)
        score = scores[task.monitor]
        metrics = {"train_loss": state.total_loss / max(state.step, 1), **scores}
        epoch = Epoch(state.epoch, metrics, state.stopping.update(state.epoch, score))
        # Not in the history: the predictions of all epochs would fill the memory.
        seen = epoch._replace(predictions=validated.predictions)
        for call in after_epoch:
            call(seen)
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
