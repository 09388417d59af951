"""``[dataset]``: what is read, and how it is split."""

from datetime import date
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from tidegate.train.config.section import Section
from tidegate.train.data.spans import Scheme


class DatasetConfig(Section):
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
