"""``[language]``: what a language model reads, and how it is trained."""

from pydantic import Field

from tidegate.train.config.section import Section
from tidegate.train.data.corpus import Unit


class LanguageConfig(Section):
    """``[language]``: what a language model reads, and how it is trained."""

    unit: Unit | None = Field(
        default=None,
        description="A token: word or character; None: the data set's own, words for `text`.",
    )
    min_count: int = Field(
        default=1, ge=1, description="Rarer tokens of the training part are unknown."
    )
    tied: bool = Field(default=True, description="The softmax has the embeddings for its rows.")
    variable_bptt: bool = Field(
        default=False, description="Draw the length of each segment around training.bptt."
    )
    activation: float = Field(
        default=0.0, ge=0, description="AR: weight of the output's mean square."
    )
    temporal_activation: float = Field(
        default=0.0, ge=0, description="TAR: weight of the mean square of its change."
    )
