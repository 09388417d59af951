"""``[[model.regularizers]]``: one method by its name."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from tidegate.train.arguments import did_you_mean
from tidegate.train.regularizers import REGULARIZERS, Regularizer


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
