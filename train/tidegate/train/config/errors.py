"""Errors of a configuration in words that name the key, the value and the remedy."""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from tidegate.train.arguments import did_you_mean


class ConfigError(ValueError):
    """A configuration that cannot be used."""


@contextmanager
def readable_errors(file: Path, config: type[BaseModel]) -> Iterator[None]:
    """Turns what may go wrong while reading a configuration into a :class:`ConfigError`.

    Args:
        file: the TOML file, for the text.
        config: the model that is read, for suggestions.

    Raises:
        ConfigError: also when the file is missing.
    """
    if not file.is_file():
        raise ConfigError(f"config={str(file)!r} is no file; give the path of a TOML file")
    try:
        yield
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not TOML: {error}") from error
    except SettingsError as error:
        raise ConfigError(f"the environment: {error}; write lists as JSON") from error
    except ValidationError as error:
        lines = [_describe(dict(one), config) for one in error.errors()]
        raise ConfigError(f"{file}: " + "; ".join(lines)) from error


def _describe(error: dict[str, Any], config: type[BaseModel]) -> str:
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _keys(config, error["loc"][:-1])
        suggestion = did_you_mean(str(error["loc"][-1]), known)
        return f"{place} is unknown; {suggestion}use one of {', '.join(known)}"
    if error["type"] == "missing":
        return f"{place} is missing; it has no default"
    message = error["msg"].removeprefix("Value error, ")
    if not place:
        return str(message)
    if error["type"] == "value_error":
        return f"{place}: {message}"
    return f"{place} = {error['input']!r}: {message[:1].lower()}{message[1:]}"


def _keys(config: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    """The keys that the section at a path knows."""
    section: Any = config
    for part in path:
        if not isinstance(part, str) or part not in section.model_fields:
            break
        annotation = section.model_fields[part].annotation
        # A section that may be absent is "Section | None".
        section = next((one for one in get_args(annotation) if one is not NoneType), annotation)
    return list(section.model_fields)
