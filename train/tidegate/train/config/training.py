"""``[training]``: the loop."""

from typing import Literal

from pydantic import Field

from tidegate.train.config.section import Section


class TrainingConfig(Section):
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
    lanes: int = Field(
        default=8, ge=1, description="Forecasting, language modelling: rows of a batch."
    )
    bptt: int = Field(default=52, ge=1, description="Likewise: steps that a gradient goes back.")
    lookback: int | None = Field(
        default=None,
        ge=1,
        description="Forecasting: learn from shuffled windows of as many steps, `lanes` a batch, "
        "with no state carried; None: lanes of `bptt` steps.",
    )
    stride: int = Field(
        default=1, ge=1, description="Forecasting: rows from one window to the next."
    )
    persistent_masks: bool = Field(
        default=False,
        description="Likewise: a lane keeps its masks per sequence from segment to segment "
        "until its state is reset; false: new masks in each segment.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto: a CUDA device where there is one, else the CPU."
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32", description="Of the products in training; fp16 on CUDA devices only."
    )
    tokens: int = Field(default=2048, ge=1, description="Labelling: most tokens of a batch.")
