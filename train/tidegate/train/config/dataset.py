"""``[dataset]``: what is read, and how it is split."""

from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tidegate.train.config.section import Section
from tidegate.train.data.spans import Scheme
from tidegate.train.data.table import Gaps, Missing, Position
from tidegate.train.scaler import DifferencedScale, ScalerName


class DatasetConfig(Section):
    """``[dataset]``: what is read, and how it is split.

    Not called ``data``: the environment variable TIDEGATE_DATA names the folder
    of the data sets, and would stand for the whole section.
    """

    name: str = Field(description="One that `tidegate-train data list` prints.")
    path: Path | None = Field(
        default=None,
        description="The file of `csv` or `parquet`; the folder of files of sentences.",
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
    train_until: date | None = Field(
        default=None, description="First day after the training part; None: 70 % of the times."
    )
    validation_until: date | None = Field(
        default=None, description="First day after the validation part; None: half of the rest."
    )
    part_rows: tuple[int, int, int] | None = Field(
        default=None, description="Rows of the three parts, in place of dates."
    )
    format: Literal["long", "wide"] | None = Field(
        default=None, description="Of a table: rows, or columns, for each series."
    )
    columns: tuple[str, ...] | None = Field(
        default=None, description="Names of the columns of a table without a header."
    )
    id_column: str | None = Field(
        default=None, description="Names the series; None: unique_id, if the table has it."
    )
    time_column: str | None = Field(
        default=None, description='Times; None: ds; "": rows are in order and numbered.'
    )
    time_format: str | None = Field(
        default=None, description="Of times, as strptime takes it; None: ISO 8601."
    )
    frequency: str | None = Field(
        default=None,
        description="pandas' alias of the time between rows, or a whole number; None: D.",
    )
    missing_values: tuple[str, ...] | None = Field(
        default=None, description='Texts that stand for a missing value, such as ".".'
    )
    targets: tuple[str, ...] | None = Field(
        default=None, description="Columns to forecast; None: y, or the first."
    )
    hist_exog: tuple[str, ...] | None = Field(
        default=None, description="Columns known up to the present; None: all others."
    )
    futr_exog: tuple[str, ...] | None = Field(
        default=None, description="Columns known over the horizon too."
    )
    stat_exog: tuple[str, ...] | None = Field(
        default=None, description="Columns of one number for each series."
    )
    cat_exog: tuple[str, ...] | None = Field(
        default=None, description="Columns of names, each read as an indicator."
    )
    calendar: tuple[Position, ...] | None = Field(
        default=None, description="Positions of a row's time that are read."
    )
    logarithms: tuple[str, ...] | None = Field(
        default=None, description="Columns read as their natural logarithm, named log_COLUMN."
    )
    gaps: Gaps | None = Field(
        default=None, description="Where a time is not there: error, insert, keep; None: error."
    )
    missing: Missing | None = Field(
        default=None,
        description="Where a value is not there: error, ffill, mark, drop; None: error.",
    )
    units: dict[str, str] | None = Field(default=None, description="Units of columns.")
    scaler: ScalerName = Field(
        default="standard", description="Of features: standard, robust or mean_abs."
    )
    differenced: tuple[str, ...] = Field(default=(), description="Features read as changes.")
    differenced_scale: DifferencedScale = Field(
        default="changes",
        description="What a differenced feature is scaled by, and the loss of it as a target.",
    )
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

    @model_validator(mode="after")
    def _parts_are_cut_once(self) -> Self:
        if self.part_rows and (self.train_until or self.validation_until):
            raise ValueError(
                f"part_rows = {list(self.part_rows)} and train_until or validation_until: both "
                "say where the parts end; keep one"
            )
        return self

    def given(self, names: Iterable[str]) -> dict[str, Any]:
        """Those settings of some names that are not left to the data set."""
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}
