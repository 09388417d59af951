"""Small tasks for the training loop, in a module that a new process can import."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tidegate.train import Recurrent, Variational, Zoneout, awd
from tidegate.train.data.corpus import Corpus
from tidegate.train.data.homographs import generate_homographs
from tidegate.train.data.sentences import label_names, vocabulary
from tidegate.train.data.series import Series
from tidegate.train.data.split import split_by_time
from tidegate.train.fit import ForecastingTask, LabellingTask, LanguageModellingTask
from tidegate.train.forecaster import Forecaster
from tidegate.train.labeller import Labeller
from tidegate.train.language_model import LanguageModel
from tidegate.train.scaler import StandardScaler


def forecasting() -> ForecastingTask:
    torch.manual_seed(0)
    times = np.datetime64("2001-01-01", "ns") + np.arange(80) * np.timedelta64(1, "D")
    values = np.sin(np.arange(80) / 3)[:, None]
    series = Series("waves", times, values, ("level",), "D")
    split = split_by_time(series, date(2001, 2, 20), date(2001, 3, 6))
    model = Forecaster(
        Recurrent("lstm", 1, 5, regularizers=[Zoneout(0.3, 0.1), Variational(0.2)]),
        features=("level",),
        targets=("level",),
        horizon=2,
        quantile_levels=(0.1, 0.5, 0.9),
        scaler=StandardScaler.fit(split.train.values, [False]),
        frequency="D",
    )
    return ForecastingTask(model, [split], lanes=2, bptt=12, persistent_masks=True)


def labelling() -> LabellingTask:
    torch.manual_seed(0)
    sentences = generate_homographs(100)
    model = Labeller(
        Recurrent("gru", 6, 5, bidirectional=True, regularizers=awd(1, words=True)),
        words=vocabulary(sentences.train),
        label_names=label_names(sentences.train),
        embedding_size=6,
    )
    return LabellingTask(model, sentences, tokens=200)


def language_modelling() -> LanguageModellingTask:
    torch.manual_seed(0)
    ids = np.random.default_rng(0).integers(0, 9, 200)
    corpus = Corpus("random", "word", ("<unk>", *"abcdefgh"), ids[:140], ids[140:170], ids[170:])
    network = Recurrent("lstm", 5, 6, regularizers=awd(1, words=True))
    model = LanguageModel(network, vocabulary=corpus.vocabulary, embedding_size=5)
    return LanguageModellingTask(
        model, corpus, lanes=2, bptt=12, activation=1.0, persistent_masks=True
    )


@dataclass
class StoppedAfter:
    """A task whose user presses Ctrl-C during one of its steps."""

    task: Any
    steps: int

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def losses(self, epoch: int, start: int = 0) -> Iterator[Tensor]:
        for loss in self.task.losses(epoch, start):
            self.steps -= 1
            if self.steps == 0:
                signal.raise_signal(signal.SIGINT)
            yield loss


def weights(task: Any) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in task.model.parameters()])
