"""Progress of training: a bar on a terminal, plain lines elsewhere."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar


class Progress:
    """Shows epochs as they pass.

    Args:
        title: what is trained.
        epochs: at most.
        monitor: the metric to show beside the training loss.
        console: where to; None: standard output.
        is_shown: whether anything is.
    """

    def __init__(
        self,
        title: str,
        epochs: int,
        monitor: str,
        console: Console | None = None,
        *,
        is_shown: bool = True,
    ) -> None:
        self._title = title
        self._monitor = monitor
        self._console = console or Console(quiet=not is_shown)
        self._epochs = epochs
        self._best = ""
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[metrics]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=epochs, metrics="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def advance(self, epoch: int, metrics: Mapping[str, float], *, is_best: bool) -> None:
        """One epoch more."""
        value = f"{metrics[self._monitor]:.4f}"
        if is_best:
            self._best = value
        text = f"train_loss {metrics['train_loss']:.4f}  {self._monitor} {value}"
        if self._console.is_terminal:
            text += f"  best {self._best}"
            self._bar.update(self._task, completed=epoch, metrics=text)
        else:
            mark = "  best" if is_best else ""
            self._console.print(
                f"{self._title}: epoch {epoch}/{self._epochs}  {text}{mark}",
                highlight=False,
                soft_wrap=True,
            )
