"""Reading a configuration: one TOML file, the environment, the command line."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    TomlConfigSettingsSource,
)

from tidegate.train.config.config import Config
from tidegate.train.config.errors import ConfigError, readable_errors


def load(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Reads a configuration.

    Args:
        path: of the TOML file.
        overrides: settings that win over file and environment, by dotted name
            (``{"training.epochs": 5}``); texts are read as on the command line.

    Raises:
        ConfigError: a file is missing or not TOML, a key is unknown, or a value
            does not fit; the text names the key and the remedy.
    """
    file = Path(path)

    class FromFile(Config):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is theirs
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            toml = TomlConfigSettingsSource(settings_cls, toml_file=file)
            return init_settings, env_settings, toml

    with readable_errors(file, Config):
        read = FromFile(**nested(overrides or {}))
    # Already valid; a plain Config equals any other with the same settings.
    return Config.model_construct(**{name: getattr(read, name) for name in Config.model_fields})


def nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """``{"training.epochs": 5}`` as ``{"training": {"epochs": 5}}``."""
    tree: dict[str, Any] = {}
    for name, value in dotted.items():
        *sections, key = name.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[key] = _parsed(value)
    return tree


def _parsed(value: object) -> object:
    """Lists and tables of the command line are JSON; all else is read by the section."""
    if not isinstance(value, str) or not value.startswith(("[", "{")):
        return value
    try:
        parsed: object = json.loads(value)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{value!r} is not JSON: {error}; write lists and tables as JSON"
        ) from error
    return parsed
