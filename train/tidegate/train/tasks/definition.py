"""What a task is to a run: data, a model, a loss, scores and what is shown of them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

import pandas as pd
from matplotlib.figure import Figure
from torch import nn

from tidegate.train import fit, tracking
from tidegate.train.config import Config, DataSettings
from tidegate.train.data.check import Checked
from tidegate.train.data.series import Part


class Data(Protocol):
    """A data set in three parts, of the task's own type."""

    def digest(self) -> str:
        """sha256 of everything in it, in hex."""


class WordEmbedding(NamedTuple):
    """Where a model's words have their vectors.

    Attributes:
        embedding: one row for each word.
        words: the vocabulary of the training part.
    """

    embedding: nn.Embedding
    words: Sequence[str]


DataT = TypeVar("DataT", bound=Data)
ModelT = TypeVar("ModelT", bound=nn.Module)
PredictionsT = TypeVar("PredictionsT")


@dataclass(frozen=True)
class Evaluation(Generic[PredictionsT]):
    """Scores of a part, and the predictions that they are of.

    Attributes:
        metrics: by name.
        predictions: of the task's own type, such as forecasts or labels given.
        tables: the same scores in detail, by name.
    """

    metrics: dict[str, float]
    predictions: PredictionsT
    tables: dict[str, pd.DataFrame]


class TaskDefinition(ABC, Generic[DataT, ModelT, PredictionsT]):
    """One task: every step of a run that differs between tasks."""

    @abstractmethod
    def load_data(self, settings: DataSettings) -> DataT:
        """Loads a data set, split into its three parts.

        Raises:
            ValueError: it is not there, or does not fit the settings.
        """

    @abstractmethod
    def check_data(self, settings: DataSettings) -> Checked:
        """Reads a data set and collects what is wrong in it.

        Raises:
            ValueError: it is not there, or nothing of it can be read.
        """

    @abstractmethod
    def build_model(self, config: Config, data: DataT) -> ModelT:
        """Builds the untrained model; what it knows of the data is of the training part.

        Raises:
            ValueError: configuration and data do not fit each other.
        """

    def word_embedding(self, model: ModelT) -> WordEmbedding:
        """Where pretrained vectors go.

        Raises:
            TypeError: the model reads no words.
        """
        raise TypeError(f"a {type(model).__name__} has no words")

    @abstractmethod
    def fit_task(self, config: Config, model: ModelT, data: DataT) -> fit.Task:
        """Model and data as the loop takes them."""

    @abstractmethod
    def pictures(self, predictions: PredictionsT) -> Iterator[tuple[str, Figure]]:
        """Draws what an epoch's model makes of the validation part.

        Args:
            predictions: of :meth:`tidegate.train.fit.Task.validate`.

        Yields:
            The name of a row of pictures, and the epoch's.
        """

    def after_fit(
        self,
        config: Config,  # noqa: ARG002 - for those that calibrate
        model: ModelT,  # noqa: ARG002
        data: DataT,  # noqa: ARG002
    ) -> None:
        """What is done once to the trained model, such as a calibration."""
        return

    @abstractmethod
    def evaluate(
        self, config: Config, model: ModelT, data: DataT, part: Part
    ) -> Evaluation[PredictionsT]:
        """Scores a model on one part."""

    @abstractmethod
    def evaluate_monte_carlo(
        self, config: Config, model: ModelT, data: DataT, part: Part, mc_samples: int
    ) -> Evaluation[PredictionsT]:
        """Scores the mean prediction of sampled networks on one part.

        Raises:
            ValueError: there are too few samples, or no mask per sequence to draw; see
                :func:`tidegate.train.inference.sampled_networks`.
        """

    @abstractmethod
    def report(
        self, config: Config, evaluation: Evaluation[PredictionsT], tracked: tracking.Run
    ) -> None:
        """Logs figures of the test part."""
