"""``[forecast]``: what a forecast says."""

from itertools import pairwise
from typing import Self

from pydantic import Field, field_validator, model_validator

from tidegate.train.config.section import Section
from tidegate.train.heads import HeadName
from tidegate.train.losses import LossName


class ForecastConfig(Section):
    """``[forecast]``: what a forecast says."""

    horizon: int = Field(default=1, ge=1, le=10_000, description="Steps ahead.")
    quantile_levels: tuple[float, ...] = (0.1, 0.5, 0.9)
    head: HeadName = Field(
        default="quantile",
        description="Quantiles alone, or those of a Student-t or negative binomial distribution.",
    )
    loss: LossName = Field(
        default="pinball",
        description="Quantile head: pinball, or squared, whose level 0.5 is the mean.",
    )
    largest_count: int = Field(
        default=1023, ge=1, le=65_535, description="Negative binomial: no quantile is above it."
    )
    conformal: bool = Field(
        default=False,
        description="After training, move the quantiles until they hold on the validation part.",
    )
    season: int | None = Field(
        default=None, ge=1, description="Rows of a season; None: by frequency."
    )
    ridge_lookback: int | None = Field(
        default=None,
        ge=0,
        description="Values that the ridge of an evaluation reads; None: two seasons; 0: no ridge.",
    )
    warmup: int | None = Field(
        default=None, ge=0, description="Rows read before a part is scored in training; None: all."
    )

    @model_validator(mode="after")
    def _counts_are_not_moved(self) -> Self:
        if self.conformal and self.head == "negative_binomial":
            raise ValueError(
                "conformal = true with head = 'negative_binomial': a count that is moved may fall "
                "below 0; leave conformal out, or take head = 'quantile'"
            )
        return self

    @model_validator(mode="after")
    def _squares_teach_the_mean(self) -> Self:
        if self.loss == "squared" and (self.head != "quantile" or self.quantile_levels != (0.5,)):
            raise ValueError(
                f"loss = 'squared' with head = {self.head!r} and quantile_levels = "
                f"{list(self.quantile_levels)}: squared errors teach the mean alone; take head = "
                "'quantile' with quantile_levels = [0.5], or leave loss out"
            )
        return self

    @field_validator("quantile_levels")
    @classmethod
    def _are_levels(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        ascending = all(a < b for a, b in pairwise(levels))
        if not levels or not ascending or levels[0] <= 0 or levels[-1] >= 1:
            raise ValueError(f"{list(levels)} must be ascending and lie between 0 and 1")
        if 0.5 not in levels:
            raise ValueError(f"{list(levels)} lack 0.5; the median is the point forecast")
        return levels
