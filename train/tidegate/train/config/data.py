"""What of a configuration its data follows from."""

from typing import NamedTuple, Self

from tidegate.train.config.config import Config
from tidegate.train.config.dataset import DatasetConfig
from tidegate.train.config.task import Task
from tidegate.train.data.corpus import Unit


class DataSettings(NamedTuple):
    """All that data is loaded by: where they are equal, so is the data.

    Attributes:
        task: that the data is for.
        dataset: the section.
        seed: of sentences that are generated.
        horizon: over which columns known in advance are read.
        unit: of a text's tokens; None: the data set's own.
        min_count: of a text's tokens.
    """

    task: Task
    dataset: DatasetConfig
    seed: int
    horizon: int
    unit: Unit | None
    min_count: int

    @classmethod
    def of(cls, config: Config) -> Self:
        """Those of a whole run."""
        language = config.language
        return cls(
            config.task,
            config.dataset,
            config.seed,
            config.forecast.horizon,
            language.unit,
            language.min_count,
        )
