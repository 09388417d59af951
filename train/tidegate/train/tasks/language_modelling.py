"""Language modelling: a long text read token by token, and what comes next."""

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure
from typing_extensions import override

from tidegate.train import fit, plots, tracking
from tidegate.train.config import Config, DataSettings
from tidegate.train.data.catalog import find_dataset, text_files
from tidegate.train.data.check import Checked
from tidegate.train.data.check_text import check_text
from tidegate.train.data.corpus import Corpus, read_corpus
from tidegate.train.data.series import Part
from tidegate.train.depth import warn_if_deep
from tidegate.train.evaluate.language import TokenLosses, score_text
from tidegate.train.inference import sampled_networks
from tidegate.train.language_model import LanguageModel
from tidegate.train.tasks.definition import Evaluation, TaskDefinition, WordEmbedding
from tidegate.train.tasks.recurrent import build_recurrent


class LanguageModelling(TaskDefinition[Corpus, LanguageModel, TokenLosses]):
    """``task = "language_modelling"``."""

    @override
    def load_data(self, settings: DataSettings) -> Corpus:
        section = settings.dataset
        dataset = find_dataset(section.name)
        return read_corpus(
            dataset.name,
            text_files(dataset, path=section.path, files=section.files),
            settings.unit or dataset.unit,
            min_count=settings.min_count,
            encoding=section.encoding,
        )

    @override
    def check_data(self, settings: DataSettings) -> Checked:
        return check_text(self.load_data(settings))

    @override
    def build_model(self, config: Config, data: Corpus) -> LanguageModel:
        section = config.model
        warn_if_deep(section.num_layers, len(data.train))
        given = {} if section.embedding_std is None else {"embedding_std": section.embedding_std}
        return LanguageModel(
            build_recurrent(config, section.embedding_size),
            vocabulary=data.vocabulary,
            embedding_size=section.embedding_size,
            unit=data.unit,
            tied=config.language.tied,
            **given,
        )

    @override
    def word_embedding(self, model: LanguageModel) -> WordEmbedding:
        return WordEmbedding(model.embedding, model.vocabulary)

    @override
    def fit_task(self, config: Config, model: LanguageModel, data: Corpus) -> fit.Task:
        section, language = config.training, config.language
        return fit.LanguageModellingTask(
            model,
            data,
            section.lanes,
            section.bptt,
            config.seed,
            language.variable_bptt,
            language.activation,
            language.temporal_activation,
            section.persistent_masks,
        )

    @override
    def pictures(self, predictions: TokenLosses) -> Iterator[tuple[str, Figure]]:
        yield "by_frequency", plots.frequency_figure(predictions.by_frequency())

    @override
    def evaluate(
        self,
        config: Config,
        model: LanguageModel,
        data: Corpus,
        part: Part,
    ) -> Evaluation[TokenLosses]:
        return _scored(score_text(model, getattr(data, part), data.train))

    @override
    def evaluate_monte_carlo(
        self,
        config: Config,
        model: LanguageModel,
        data: Corpus,
        part: Part,
        mc_samples: int,
    ) -> Evaluation[TokenLosses]:
        with closing(sampled_networks(model, mc_samples)) as networks:
            found = [score_text(model, getattr(data, part), data.train) for _ in networks]
        # The mean of the probabilities, not of their logarithms.
        total = np.logaddexp.reduce([-one.nats for one in found])
        return _scored(replace(found[0], nats=math.log(mc_samples) - total))

    @override
    def report(
        self,
        config: Config,
        evaluation: Evaluation[TokenLosses],
        tracked: tracking.Run,
    ) -> None:
        figure = plots.frequency_figure(evaluation.tables["by_frequency"])
        tracked.log_figure(figure, "by_frequency.png")


def _scored(scored: TokenLosses) -> Evaluation[TokenLosses]:
    tables = {"by_token": scored.by_token(), "by_frequency": scored.by_frequency()}
    return Evaluation(scored.metrics(), scored, tables)
