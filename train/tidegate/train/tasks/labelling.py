"""Labelling: a whole sentence, a label for each word or for the sentence."""

from collections.abc import Iterator

from matplotlib.figure import Figure
from typing_extensions import override

from tidegate.train import fit, plots, tracking
from tidegate.train.characters import CharacterEncoder
from tidegate.train.config import Config, DataSettings
from tidegate.train.config.dataset import DatasetConfig
from tidegate.train.data.catalog import find_dataset, sentence_files
from tidegate.train.data.check import Checked
from tidegate.train.data.check_sentences import check_files, check_sentences
from tidegate.train.data.homographs import generate_homographs
from tidegate.train.data.sentence_files import Layout, SentenceFiles
from tidegate.train.data.sentences import (
    SentenceSplit,
    ambiguous_words,
    character_list,
    label_names,
    sentence_label_names,
    vocabulary,
)
from tidegate.train.data.series import Part
from tidegate.train.depth import warn_if_deep
from tidegate.train.evaluate.labelling import Answers, predict
from tidegate.train.labeller import Labeller
from tidegate.train.recurrent import Recurrent
from tidegate.train.tasks.definition import Evaluation, TaskDefinition, WordEmbedding
from tidegate.train.tasks.recurrent import build_recurrent


class Labelling(TaskDefinition[SentenceSplit, Labeller, Answers]):
    """``task = "labelling"``."""

    @override
    def load_data(self, settings: DataSettings) -> SentenceSplit:
        section = settings.dataset
        if find_dataset(section.name).format:
            return _find_sentence_files(section).read()
        return generate_homographs(section.sentences, seed=settings.seed)

    @override
    def check_data(self, settings: DataSettings) -> Checked:
        if find_dataset(settings.dataset.name).format:
            return check_files(_find_sentence_files(settings.dataset))
        return check_sentences(self.load_data(settings))

    @override
    def build_model(self, config: Config, data: SentenceSplit) -> Labeller:
        warn_if_deep(config.model.num_layers, sum(map(len, data.train)))
        section = config.dataset
        characters = _build_characters(config, data)
        width = config.model.embedding_size + (characters.output_size if characters else 0)
        return Labeller(
            build_recurrent(config, width),
            words=vocabulary(
                data.train, min_count=section.min_count, lower_case=section.lower_case
            ),
            label_names=label_names(data.train),
            embedding_size=config.model.embedding_size,
            lower_case=section.lower_case,
            characters=characters,
            word_dropout=config.model.word_dropout,
            decoder=config.model.decoder,
            sentence_label_names=sentence_label_names(data.train),
            pooling=config.model.pooling,
            embedding_std=config.model.embedding_std or 1.0,
        )

    @override
    def word_embedding(self, model: Labeller) -> WordEmbedding:
        return WordEmbedding(model.embedding, model.words)

    @override
    def fit_task(self, config: Config, model: Labeller, data: SentenceSplit) -> fit.Task:
        return fit.LabellingTask(model, data, config.training.tokens, config.seed)

    @override
    def evaluate(
        self,
        config: Config,
        model: Labeller,
        data: SentenceSplit,
        part: Part,
    ) -> Evaluation[Answers]:
        return _scored(model, data, predict(model, getattr(data, part)))

    @override
    def evaluate_monte_carlo(
        self,
        config: Config,
        model: Labeller,
        data: SentenceSplit,
        part: Part,
        mc_samples: int,
    ) -> Evaluation[Answers]:
        return _scored(model, data, predict(model, getattr(data, part), mc_samples=mc_samples))

    @override
    def pictures(self, predictions: Answers) -> Iterator[tuple[str, Figure]]:
        for name, figure in _confusion_figures(predictions):
            yield f"validation_{name}", figure

    @override
    def report(
        self,
        config: Config,
        evaluation: Evaluation[Answers],
        tracked: tracking.Run,
    ) -> None:
        for name, figure in _confusion_figures(evaluation.predictions):
            tracked.log_figure(figure, f"{name}.png")


def _confusion_figures(answers: Answers) -> Iterator[tuple[str, Figure]]:
    """A picture for each kind of label that has few enough, by name."""
    for name, (counts, names) in answers.confusions().items():
        if len(names) <= plots.MOST_LABELS:
            yield name, plots.confusion_figure(counts, names)


def _scored(model: Labeller, data: SentenceSplit, answers: Answers) -> Evaluation[Answers]:
    metrics = answers.metrics()
    if model.label_names:
        words = ambiguous_words(data.train, lower_case=model.lower_case)
        ambiguous = answers.accuracy_on(words, lower_case=model.lower_case)
        metrics["accuracy_ambiguous"] = ambiguous
    return Evaluation(metrics, answers, answers.tables())


def _find_sentence_files(section: DatasetConfig) -> SentenceFiles:
    """Where the sentences of ``[dataset]`` are.

    Raises:
        ValueError: the data set is not one of files of sentences, or not known.
    """
    layout = Layout(section.encoding, section.word_column, section.label_column, section.scheme)
    return sentence_files(
        find_dataset(section.name), path=section.path, files=section.files, layout=layout
    )


def _build_characters(config: Config, data: SentenceSplit) -> CharacterEncoder | None:
    section = config.model.characters
    if section is None:
        return None
    recurrent = Recurrent(
        section.cell,
        section.embedding_size,
        section.hidden_size,
        section.num_layers,
        bidirectional=section.bidirectional,
        regularizers=[one.build() for one in section.regularizers],
    )
    return CharacterEncoder(
        recurrent,
        characters=character_list(
            data.train, min_count=section.min_count, normalization=section.normalization
        ),
        embedding_size=section.embedding_size,
        max_characters=section.max_characters,
        normalization=section.normalization,
    )
