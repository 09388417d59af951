"""What an engine is, and the simplest: this process by itself."""

from pathlib import Path
from typing import Protocol

from tidegate.train import job
from tidegate.train.config import Config


class Engine(Protocol):
    """Runs one training, in one or several processes."""

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that prints."""

    def fit(self, config: Config, output: Path, *, resume: bool) -> job.Summary | None:
        """Trains, evaluates, exports and registers one model.

        Args:
            config: of the run.
            output: as :func:`tidegate.train.job.run` takes it.
            resume: likewise.

        Returns:
            What the run came to; None in a process that is not the first.

        Raises:
            ValueError: as :func:`tidegate.train.job.run` does.
            TrainingError: likewise.
            Interrupted: SIGINT stopped it, and it can be resumed.
        """


class Local:
    """This process alone."""

    is_first = True

    def fit(self, config: Config, output: Path, *, resume: bool) -> job.Summary:
        """Does what :meth:`Engine.fit` says."""
        return job.run(config, output, resume=resume).summary()
