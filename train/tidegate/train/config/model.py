"""``[model]``: the network."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from tidegate.train.characters import Normalization
from tidegate.train.combination import check_combination
from tidegate.train.config.regularizer import RegularizerConfig
from tidegate.train.config.section import Section
from tidegate.train.config.task import Task
from tidegate.train.labeller import Decoder
from tidegate.train.pooling import PoolingName
from tidegate.train.presets import PRESETS
from tidegate.train.regularizers import Regularizer


class CharactersConfig(Section):
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


class ModelConfig(Section):
    """``[model]``: the network."""

    cell: Literal["lstm", "gru", "rnn"] = "gru"
    hidden_size: int = Field(default=64, ge=1, le=8192)
    num_layers: int = Field(default=2, ge=1, le=16)
    bidirectional: bool = False
    merge: Literal["concat", "sum"] = "concat"
    reset_after: bool = Field(default=True, description="GRU: torch's flavour; false: the paper's.")
    segment: int = Field(
        default=1, ge=1, le=1024, description="Forecasting: observations that a step reads."
    )
    channel_independent: bool = Field(
        default=False, description="Forecasting: each feature a series of its own, same weights."
    )
    lags: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="Forecasting: earlier values that a linear map reads beside the network, "
        "as distances from the last one; every column differenced, channel_independent.",
    )
    embedding_size: int = Field(default=64, ge=1, le=8192, description="Of words and other tokens.")
    embedding_std: float | None = Field(
        default=None,
        gt=0,
        description="Standard deviation of the embeddings' first values; None: 1 for labelling, "
        "0.1 for language modelling.",
    )
    vectors: Path | None = Field(
        default=None, description="File of GloVe or fastText that embeddings of words begin as."
    )
    vectors_encoding: str = Field(default="utf-8", description="Of that file.")
    freeze_vectors: bool = Field(default=False, description="Training leaves embeddings alone.")
    characters: CharactersConfig | None = Field(
        default=None, description="Labelling: also reads characters."
    )
    decoder: Decoder = Field(
        default="softmax", description="Labelling: softmax, or crf over the whole sentence."
    )
    pooling: PoolingName = Field(
        default="max", description="Labelling: max, mean or attention, for labels of sentences."
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
        if self.freeze_vectors and self.vectors is None:
            raise ValueError(
                "freeze_vectors = true without vectors; give the file, or leave it out"
            )
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
            return PRESETS[self.preset](self.num_layers, words=task != "forecasting")
        return tuple(one.build() for one in self.regularizers)


def _check_regularizers(section: ModelConfig | CharactersConfig) -> None:
    check_combination(
        [one.build() for one in section.regularizers],
        section.cell,
        num_layers=section.num_layers,
        bidirectional=section.bidirectional,
    )
