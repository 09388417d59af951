"""A whole training run, in sections."""

from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tidegate.train.combination import check_reads_numbers
from tidegate.train.config.dataset import DatasetConfig
from tidegate.train.config.flat import flatten
from tidegate.train.config.forecast import ForecastConfig
from tidegate.train.config.language import LanguageConfig
from tidegate.train.config.model import ModelConfig
from tidegate.train.config.ray import RayConfig
from tidegate.train.config.task import Task
from tidegate.train.config.tracking import TrackingConfig
from tidegate.train.config.training import TrainingConfig
from tidegate.train.config.tune import TuneConfig
from tidegate.train.language_model import BIDIRECTIONAL as BIDIRECTIONAL_LANGUAGE_MODEL
from tidegate.train.regularizers import Site

BIDIRECTIONAL_FORECAST = (
    "model.bidirectional = true is refused for task = 'forecasting': a network that reads "
    "backwards would see the future, which is not known when a forecast is made. Set "
    "model.bidirectional = false; a second direction is for task = 'labelling', where the whole "
    "sentence is there"
)


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
    language: LanguageConfig = LanguageConfig()
    tracking: TrackingConfig = TrackingConfig()
    tune: TuneConfig | None = None
    ray: RayConfig = RayConfig()

    @model_validator(mode="after")
    def _the_future_is_not_known(self) -> Self:
        if self.task == "forecasting" and self.model.bidirectional:
            raise ValueError(BIDIRECTIONAL_FORECAST)
        if self.task == "language_modelling" and self.model.bidirectional:
            raise ValueError(
                "model.bidirectional = true is refused for task = 'language_modelling': "
                f"{BIDIRECTIONAL_LANGUAGE_MODEL}"
            )
        if self.task == "forecasting":
            check_reads_numbers(self.model.build_regularizers(self.task))
        return self

    @model_validator(mode="after")
    def _vectors_are_of_words(self) -> Self:
        if self.model.vectors is not None and self.task == "forecasting":
            raise ValueError("model.vectors is for words, and a forecaster reads numbers")
        if self.model.freeze_vectors and self.task == "language_modelling" and self.language.tied:
            raise ValueError(
                "model.freeze_vectors = true with language.tied = true would freeze the softmax "
                "too; set language.tied = false"
            )
        return self

    @model_validator(mode="after")
    def _there_are_masks_to_keep(self) -> Self:
        if not self.training.persistent_masks:
            return self
        if self.task == "labelling":
            raise ValueError(
                "training.persistent_masks = true is not for task = 'labelling': a sentence is "
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
        """Every setting of the run as MLflow's parameters: ``{"training.epochs": "30", ...}``.

        The search that a recipe may also describe, ``[tune]``, is none of them, nor are
        the workers that a run happens to have, ``[ray]``.
        """
        return dict(flatten(self.model_dump(mode="json", exclude={"tune", "ray"})))
