"""What every section of a configuration has in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of the TOML file: no unknown keys, and no change after reading."""

    model_config = ConfigDict(frozen=True, extra="forbid")
