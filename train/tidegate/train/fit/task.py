"""What the loop trains, and what it reports."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn


class Validated(NamedTuple):
    """What the validation part came to.

    Attributes:
        metrics: by name.
        predictions: of the task's own type, such as forecasts or labels given.
    """

    metrics: dict[str, float]
    predictions: Any = None


class Task(Protocol):
    """A model with its data."""

    @property
    def model(self) -> nn.Module:
        """The model; the loop changes its weights."""

    @property
    def monitor(self) -> str:
        """The validation metric that chooses the best epoch."""

    @property
    def higher_is_better(self) -> bool:
        """Which way the monitored metric improves."""

    def losses(self, epoch: int, start: int = 0) -> Iterator[Tensor]:
        """The loss of one step after another; the loop steps before asking for the next.

        Args:
            epoch: from 1; the order of the data follows from it.
            start: steps of the epoch that are done, before a run was interrupted.
        """

    def validate(self) -> Validated:
        """Metrics and predictions of the validation part; called in evaluation mode."""

    def state_dict(self) -> dict[str, Any]:
        """What the next step needs of those before it, such as a carried state."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from another's :meth:`state_dict`."""


class Epoch(NamedTuple):
    """What one epoch came to.

    Attributes:
        number: from 1.
        metrics: by name; ``train_loss`` and what the task validates.
        is_best: whether the monitored metric is the best so far.
        predictions: that the metrics are of, for what is called after the epoch, in the
            first process; later None.
    """

    number: int
    metrics: dict[str, float]
    is_best: bool
    predictions: Any = None


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
