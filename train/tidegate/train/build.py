"""From a configuration to data and an untrained model: the one place that knows both."""

from typing import assert_never

import torch

from tidegate.train.characters import CharacterEncoder
from tidegate.train.config import Config
from tidegate.train.data.catalog import find_dataset, sentence_files
from tidegate.train.data.co2 import load_co2
from tidegate.train.data.csv_series import load_csv
from tidegate.train.data.homographs import generate_homographs
from tidegate.train.data.sentence_files import Layout, SentenceFiles
from tidegate.train.data.sentences import (
    SentenceSplit,
    character_list,
    label_names,
    sentence_label_names,
    vocabulary,
)
from tidegate.train.data.series import Series, SeriesSplit, split_by_time
from tidegate.train.depth import warn_if_deep
from tidegate.train.forecaster import Forecaster
from tidegate.train.labeller import Labeller
from tidegate.train.recurrent import Recurrent
from tidegate.train.scaler import StandardScaler

Data = SeriesSplit | SentenceSplit
Model = Forecaster | Labeller


def load_data(config: Config) -> Data:
    """Loads the data set of a configuration, split into its three parts.

    Raises:
        ValueError: the data set is unknown, for another task, or not there.
    """
    dataset = find_dataset(config.dataset.name)
    if dataset.task != config.task:
        raise ValueError(
            f"dataset.name={dataset.name!r} is for task = {dataset.task!r}, and task = "
            f"{config.task!r}; change one of them"
        )
    if config.task == "forecasting":
        section = config.dataset
        return split_by_time(_load_series(config), section.train_until, section.validation_until)
    if dataset.format:
        return find_sentence_files(config).read()
    return generate_homographs(config.dataset.sentences, seed=config.seed)


def find_sentence_files(config: Config) -> SentenceFiles:
    """Where the sentences of ``[dataset]`` are.

    Raises:
        ValueError: the data set is not one of files of sentences, or not known.
    """
    section = config.dataset
    layout = Layout(section.encoding, section.word_column, section.label_column, section.scheme)
    return sentence_files(
        find_dataset(section.name), path=section.path, files=section.files, layout=layout
    )


def build_model(config: Config, data: Data) -> Model:
    """Builds the untrained model; its weights follow from the seed alone.

    Scaler, vocabulary and label names are taken from the training part only. A
    stack deeper than is usual for the training part warns.

    Raises:
        ValueError: configuration and data do not fit each other.
    """
    torch.manual_seed(config.seed)
    match data:
        case SeriesSplit():
            warn_if_deep(config.model.num_layers, len(data.train))
            return build_forecaster(config, data)
        case SentenceSplit():
            warn_if_deep(config.model.num_layers, sum(map(len, data.train)))
            return build_labeller(config, data)
        case _:
            assert_never(data)


def build_forecaster(config: Config, data: SeriesSplit) -> Forecaster:
    """Builds the untrained forecaster of a series.

    Raises:
        ValueError: a target or differenced feature is not in the series.
    """
    train, section = data.train, config.dataset
    differenced = set(train.columns(section.differenced))
    targets = section.targets or train.features[:1]
    train.columns(targets)
    return Forecaster(
        build_recurrent(config, len(train.features)),
        features=train.features,
        units=train.units,
        targets=targets,
        horizon=config.forecast.horizon,
        quantile_levels=config.forecast.quantile_levels,
        scaler=StandardScaler.fit(
            train.values, [column in differenced for column in range(len(train.features))]
        ),
        frequency=train.frequency,
    )


def build_labeller(config: Config, data: SentenceSplit) -> Labeller:
    """Builds the untrained labeller of a set of sentences."""
    section = config.dataset
    characters = build_characters(config, data)
    width = config.model.embedding_size + (characters.output_size if characters else 0)
    return Labeller(
        build_recurrent(config, width),
        words=vocabulary(data.train, min_count=section.min_count, lower_case=section.lower_case),
        label_names=label_names(data.train),
        embedding_size=config.model.embedding_size,
        lower_case=section.lower_case,
        characters=characters,
        word_dropout=config.model.word_dropout,
        decoder=config.model.decoder,
        sentence_label_names=sentence_label_names(data.train),
        pooling=config.model.pooling,
        embedding_std=config.model.embedding_std,
    )


def build_characters(config: Config, data: SentenceSplit) -> CharacterEncoder | None:
    """Builds what reads characters; None without ``[model.characters]``."""
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


def build_recurrent(config: Config, input_size: int) -> Recurrent:
    """Builds the recurrent stack of ``[model]``."""
    section = config.model
    return Recurrent(
        section.cell,
        input_size,
        section.hidden_size,
        section.num_layers,
        bidirectional=section.bidirectional,
        regularizers=section.build_regularizers(config.task),
        reset_after=section.reset_after,
        merge=section.merge,
    )


def _load_series(config: Config) -> Series:
    section = config.dataset
    if section.name == "co2":
        return load_co2()
    if section.path is None:
        raise ValueError("dataset.path is missing; give the path of the CSV file")
    return load_csv(section.path, section.frequency, units=section.units)
