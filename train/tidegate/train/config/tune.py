"""``[tune]``: the search for a better configuration."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from tidegate.train.config.section import Section


class FloatRange(Section):
    """A number from ``low`` to ``high``; ``log``: evenly over its logarithm."""

    type: Literal["float"]
    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        _check_range(self.low, self.high, log=self.log)
        return self


class IntRange(Section):
    """A whole number from ``low`` to ``high``; ``log`` as above."""

    type: Literal["int"]
    low: int
    high: int
    log: bool = False

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        _check_range(self.low, self.high, log=self.log)
        return self


class Categorical(Section):
    """One of several values."""

    type: Literal["categorical"]
    choices: tuple[bool | int | float | str, ...] = Field(min_length=1)


Distribution = Annotated[FloatRange | IntRange | Categorical, Field(discriminator="type")]


class TuneConfig(Section):
    """``[tune]``: how long to search, and where."""

    trials: int = Field(default=20, ge=1, description="Of the study, whoever runs them.")
    timeout: float | None = Field(
        default=None, gt=0, description="Seconds after which a worker begins no trial."
    )
    pruner: Literal["median", "none"] = Field(
        default="median",
        description="median: a trial ends when its best score is worse than the median of the "
        "others at the same epoch.",
    )
    storage: str = Field(
        default="sqlite:///.tidegate/tune.db",
        description="Of the study, which workers share: sqlite:///FILE or "
        "postgresql+psycopg2://USER@HOST/DATABASE.",
    )
    storage_password_file: Path | None = Field(
        default=None, description="Holds the password of the user of `storage`."
    )
    space: dict[str, Distribution] = Field(
        min_length=1, description='By dotted name, such as "training.learning_rate".'
    )

    @field_validator("storage")
    @classmethod
    def _has_no_password(cls, storage: str) -> str:
        # The settings of a run are shown to whoever sees it in MLflow.
        user, at, rest = storage.partition("://")[2].rpartition("@")
        if at and ":" in user:
            raise ValueError(
                f"the storage at {rest!r} comes with a password; write it into a file and name "
                "that in tune.storage_password_file"
            )
        return storage


def _check_range(low: float, high: float, *, log: bool) -> None:
    if not low < high:
        raise ValueError(f"low = {low} is not below high = {high}")
    if log and low <= 0:
        raise ValueError(f"low = {low} has no logarithm; give one above 0, or set log = false")
