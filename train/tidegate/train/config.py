"""The configuration of a training run: one TOML file, the environment, the command line.

The command line wins over the environment (``TIDEGATE_TRAINING__EPOCHS=5``),
which wins over the file. Only :mod:`tidegate.train.build` and
:mod:`tidegate.train.job` see a :class:`Config`; everything else takes plain
arguments.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from tidegate.train.arguments import did_you_mean
from tidegate.train.characters import Normalization
from tidegate.train.combination import check_combination, check_reads_numbers
from tidegate.train.config_errors import ConfigError, readable_errors
from tidegate.train.data.spans import Scheme
from tidegate.train.labeller import Decoder
from tidegate.train.pooling import PoolingName
from tidegate.train.presets import PRESETS
from tidegate.train.regularizers import REGULARIZERS, Regularizer, Site

Task = Literal["forecasting", "labelling"]

BIDIRECTIONAL_FORECAST = (
    "model.bidirectional = true is refused for task = 'forecasting': a network that reads "
    "backwards would see the future, which is not known when a forecast is made. Set "
    "model.bidirectional = false; a second direction is for task = 'labelling', where the whole "
    "sentence is there"
)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetConfig(_Section):
    """``[dataset]``: what is read, and how it is split.

    Not called ``data``: the environment variable TIDEGATE_DATA names the folder
    of the data sets, and would stand for the whole section.
    """

    name: str = Field(description="One that `tidegate-train data list` prints.")
    path: Path | None = Field(
        default=None, description="The file of `csv`; the folder of files of sentences."
    )
    files: tuple[str, ...] = Field(
        default=(), description="Of training, validation and test, below `path`."
    )
    encoding: str = Field(default="utf-8", description="Of files of sentences.")
    word_column: int = Field(default=0, description="Of `conll`, from 0; negative: from the last.")
    label_column: str = Field(
        default="", description="Of `conll`, likewise; of `conllu`, its name; empty: last, UPOS."
    )
    scheme: Scheme = Field(default="as_is", description="Labels of spans: as_is, bio or iobes.")
    train_until: date | None = Field(default=None, description="First day after the training part.")
    validation_until: date | None = Field(
        default=None, description="First day after the validation part."
    )
    frequency: str = Field(
        default="D", description="pandas' alias of the time between rows of `csv`."
    )
    targets: tuple[str, ...] = Field(
        default=(), description="Features to forecast; empty: the first."
    )
    differenced: tuple[str, ...] = Field(default=(), description="Features read as changes.")
    units: dict[str, str] = Field(default={}, description="Units of the features of `csv`.")
    sentences: int = Field(
        default=4000, ge=10, description="Generated sentences, all parts together."
    )
    min_count: int = Field(
        default=2, ge=1, description="Rarer words of the training part are unknown."
    )
    lower_case: bool = Field(default=True, description="Look words up in lower case.")

    @model_validator(mode="after")
    def _splits_are_in_order(self) -> Self:
        if (
            self.train_until
            and self.validation_until
            and not (self.train_until < self.validation_until)
        ):
            raise ValueError(
                f"train_until = {self.train_until} is not before validation_until = "
                f"{self.validation_until}; the parts follow each other in time"
            )
        return self


class RegularizerConfig(BaseModel):
    """One ``[[model.regularizers]]``: the name of a method, then its arguments."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in REGULARIZERS:
            raise ValueError(
                f"{name!r} is no regularizer; {did_you_mean(name, REGULARIZERS)}"
                f"use one of {', '.join(REGULARIZERS)}"
            )
        return name

    @model_validator(mode="after")
    def _takes_its_arguments(self) -> Self:
        known = REGULARIZERS[self.name].__dataclass_fields__
        for key in self.arguments:
            if key not in known:
                raise ValueError(
                    f"{key!r} is no argument of {self.name}; {did_you_mean(key, known)}"
                    f"use one of {', '.join(known)}"
                )
        self.build()
        return self

    @property
    def arguments(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})

    def build(self) -> Regularizer:
        """The regularizer itself.

        Raises:
            ValueError: an argument is missing or out of its range.
        """
        try:
            return REGULARIZERS[self.name](**self.arguments)
        except TypeError as error:
            raise ValueError(f"{self.name}: {error}") from error


class CharactersConfig(_Section):
    """``[model.characters]``: the network over each word's characters."""

    cell: Literal["lstm", "gru", "rnn"] = "lstm"
    embedding_size: int = Field(default=32, ge=1, le=8192)
    hidden_size: int = Field(default=48, ge=1, le=8192)
    num_layers: int = Field(default=1, ge=1, le=16)
    bidirectional: bool = True
    max_characters: int = Field(
        default=24, ge=1, le=1024, description="Of a longer word only the first are read."
    )
    min_count: int = Field(
        default=2, ge=1, description="Rarer characters of the training part are unknown."
    )
    normalization: Normalization = Field(
        default="", description="Form of Unicode; NFD takes Korean syllables apart."
    )
    regularizers: tuple[RegularizerConfig, ...] = ()

    @model_validator(mode="after")
    def _regularizers_go_together(self) -> Self:
        _check_regularizers(self)
        return self


class ModelConfig(_Section):
    """``[model]``: the network."""

    cell: Literal["lstm", "gru", "rnn"] = "gru"
    hidden_size: int = Field(default=64, ge=1, le=8192)
    num_layers: int = Field(default=2, ge=1, le=16)
    bidirectional: bool = False
    merge: Literal["concat", "sum"] = "concat"
    reset_after: bool = Field(default=True, description="GRU: torch's flavour; false: the paper's.")
    embedding_size: int = Field(default=64, ge=1, le=8192, description="Of labelling's words.")
    embedding_std: float = Field(
        default=1.0, gt=0, description="Standard deviation of the embeddings' first values."
    )
    characters: CharactersConfig | None = Field(
        default=None, description="Labelling: also reads characters."
    )
    decoder: Decoder = Field(
        default="softmax", description="Labelling: softmax, or crf over the whole sentence."
    )
    pooling: PoolingName = Field(
        default="max", description="Labelling: max or attention, for labels of sentences."
    )
    word_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Labelling: words read as unknown in training."
    )
    regularizers: tuple[RegularizerConfig, ...] = ()
    preset: Literal["awd"] | None = Field(
        default=None, description="Published regularizers that go together, in their place."
    )

    @model_validator(mode="after")
    def _regularizers_go_together(self) -> Self:
        _check_regularizers(self)
        if self.preset and self.regularizers:
            raise ValueError(
                f"preset = {self.preset!r} and regularizers "
                f"{[one.name for one in self.regularizers]}: a preset is a set of regularizers; "
                "keep one of the two"
            )
        return self

    def build_regularizers(self, task: Task) -> tuple[Regularizer, ...]:
        """The regularizers, listed or of the preset."""
        if self.preset:
            return PRESETS[self.preset](self.num_layers, words=task == "labelling")
        return tuple(one.build() for one in self.regularizers)


def _check_regularizers(section: ModelConfig | CharactersConfig) -> None:
    check_combination(
        [one.build() for one in section.regularizers],
        section.cell,
        num_layers=section.num_layers,
        bidirectional=section.bidirectional,
    )


class TrainingConfig(_Section):
    """``[training]``: the loop."""

    epochs: int = Field(default=30, ge=1, le=100_000)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(default=3e-3, gt=0, le=1000)
    schedule: Literal["cosine", "constant", "plateau"] = Field(
        default="cosine", description="Of the learning rate; the cosine ends at a tenth."
    )
    plateau_patience: int = Field(
        default=3, ge=0, description="Epochs without a better score before the rate falls."
    )
    plateau_factor: float = Field(default=0.25, gt=0, lt=1, description="By which it falls.")
    average: bool = Field(
        default=False,
        description="Average the weights once the validation score gets worse; with sgd and a "
        "constant rate this is NT-ASGD.",
    )
    non_monotone_interval: int = Field(
        default=5, ge=1, description="Latest epochs that the trigger of `average` disregards."
    )
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    clip: float = Field(default=1.0, gt=0, description="Largest norm of the whole gradient.")
    patience: int = Field(default=8, ge=1, description="Epochs without a better validation score.")
    lanes: int = Field(default=8, ge=1, description="Forecasting: rows of a batch.")
    bptt: int = Field(default=52, ge=1, description="Forecasting: steps that a gradient goes back.")
    persistent_masks: bool = Field(
        default=False,
        description="Forecasting: a lane keeps its masks per sequence from segment to segment "
        "until its state is reset; false: new masks in each segment.",
    )
    tokens: int = Field(default=2048, ge=1, description="Labelling: most tokens of a batch.")


class ForecastConfig(_Section):
    """``[forecast]``: what a forecast says."""

    horizon: int = Field(default=1, ge=1, le=10_000, description="Steps ahead.")
    quantile_levels: tuple[float, ...] = (0.1, 0.5, 0.9)
    season: int | None = Field(
        default=None, ge=1, description="Rows of a season; None: by frequency."
    )
    warmup: int | None = Field(
        default=None, ge=0, description="Rows read before a part is scored in training; None: all."
    )

    @field_validator("quantile_levels")
    @classmethod
    def _are_levels(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        ascending = all(a < b for a, b in pairwise(levels))
        if not levels or not ascending or levels[0] <= 0 or levels[-1] >= 1:
            raise ValueError(f"{list(levels)} must be ascending and lie between 0 and 1")
        if 0.5 not in levels:
            raise ValueError(f"{list(levels)} lack 0.5; the median is the point forecast")
        return levels


class TrackingConfig(_Section):
    """``[tracking]``: where MLflow keeps the run."""

    uri: str = "sqlite:///.tidegate/mlflow.db"
    experiment: str = "tidegate"
    registered_model: str | None = Field(default=None, description="None: the run's name.")
    picture_every: int = Field(default=5, ge=1, description="Epochs between two forecast pictures.")


class Config(BaseSettings):
    """A whole training run."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="TIDEGATE_", env_nested_delimiter="__"
    )
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")
    task: Task
    seed: int = Field(default=0, ge=0, lt=2**31)
    dataset: DatasetConfig
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    forecast: ForecastConfig = ForecastConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _the_future_is_not_known(self) -> Self:
        if self.task == "forecasting" and self.model.bidirectional:
            raise ValueError(BIDIRECTIONAL_FORECAST)
        if self.task == "forecasting":
            check_reads_numbers(self.model.build_regularizers(self.task))
        return self

    @model_validator(mode="after")
    def _there_are_masks_to_keep(self) -> Self:
        if not self.training.persistent_masks:
            return self
        if self.task != "forecasting":
            raise ValueError(
                "training.persistent_masks = true is for task = 'forecasting': a sentence is "
                "never cut into segments, so its masks last as long as it does. Leave it out"
            )
        methods = self.model.build_regularizers(self.task)
        if not any(one.per_sequence and Site.WEIGHT not in one.sites for one in methods):
            raise ValueError(
                f"training.persistent_masks = true with model.regularizers = "
                f"{[one.name for one in methods]}: none of them has one mask for a sequence. Use "
                "variational, rnndrop, or granularity = 'sequence', or leave it out"
            )
        return self

    @property
    def registered_model(self) -> str:
        """The name in MLflow's registry."""
        return self.tracking.registered_model or self.name

    def flat(self) -> dict[str, str]:
        """Every setting as MLflow's parameters: ``{"training.epochs": "30", ...}``."""
        return dict(_flatten(self.model_dump(mode="json")))


def load(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Reads a configuration.

    Args:
        path: of the TOML file.
        overrides: settings that win over file and environment, by dotted name
            (``{"training.epochs": 5}``); texts are read as on the command line.

    Raises:
        ConfigError: a file is missing or not TOML, a key is unknown, or a value
            does not fit; the text names the key and the remedy.
    """
    file = Path(path)

    class FromFile(Config):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is theirs
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            toml = TomlConfigSettingsSource(settings_cls, toml_file=file)
            return init_settings, env_settings, toml

    with readable_errors(file, Config):
        read = FromFile(**nested(overrides or {}))
    # Already valid; a plain Config equals any other with the same settings.
    return Config.model_construct(**{name: getattr(read, name) for name in Config.model_fields})


def nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """``{"training.epochs": 5}`` as ``{"training": {"epochs": 5}}``."""
    tree: dict[str, Any] = {}
    for name, value in dotted.items():
        *sections, key = name.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[key] = _parsed(value)
    return tree


def _parsed(value: object) -> object:
    """Lists and tables of the command line are JSON; all else is read by the section."""
    if not isinstance(value, str) or not value.startswith(("[", "{")):
        return value
    try:
        parsed: object = json.loads(value)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{value!r} is not JSON: {error}; write lists and tables as JSON"
        ) from error
    return parsed


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            pairs += _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            pairs.append((f"{prefix}{key}", ", ".join(_item(one) for one in value)))
        else:
            pairs.append((f"{prefix}{key}", "" if value is None else str(value)))
    return pairs


def _item(value: object) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    arguments = ", ".join(f"{k}={v}" for k, v in value.items() if k != "name")
    return f"{value['name']}({arguments})"
