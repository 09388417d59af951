"""Where models come from: a folder here, `registry` for MLflow's registry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tidegate.serve.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tidegate.serve.settings import Settings

_CHECKSUM = "model.onnx.sha256"


class Listed(NamedTuple):
    """What a source has of one model.

    Attributes:
        versions: Whole numbers as text, ascending.
        aliases: Version of each alias.
    """

    versions: tuple[str, ...]
    aliases: Mapping[str, str]


class Fetched(NamedTuple):
    """An ONNX file that is here.

    Attributes:
        path: Of the file.
        sha256: The digest that its publisher gave, hexadecimal; empty: none.
    """

    path: Path
    sha256: str


class Source(Protocol):
    """Lists and fetches models; may be called from any thread, by one at a time."""

    def list(self) -> Mapping[str, Listed]:
        """The models by name.

        Raises:
            LoadError: The source cannot be read, or holds nothing.
        """

    def fetch(self, name: str, version: str) -> Fetched:
        """Makes the file of one version available here.

        Raises:
            LoadError: It is not there, or not as it should be.
        """


class FolderSource:
    """A folder of `<name>/<version>/model.onnx` and `<name>/aliases.json`.

    A file `model.onnx.sha256` beside a model, as `sha256sum` writes it, is its
    publisher's checksum.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def list(self) -> dict[str, Listed]:
        """See `Source.list`."""
        if not self._folder.is_dir():
            raise LoadError(f"models folder {self._folder} does not exist: pass --models FOLDER")
        listed = {}
        for folder in sorted(self._folder.iterdir()):
            # The aliases first: whoever publishes adds a version before moving one to it.
            aliases = _read_aliases(folder / "aliases.json")
            if versions := _versions(folder):
                _check_aliases(folder, aliases, versions)
                listed[folder.name] = Listed(versions, aliases)
        if not listed:
            raise LoadError(f"models folder {self._folder} holds no <name>/<version>/model.onnx")
        return listed

    def fetch(self, name: str, version: str) -> Fetched:
        """See `Source.fetch`."""
        path = self._folder / name / version / "model.onnx"
        return Fetched(path, _checksum(path.with_name(_CHECKSUM)))


def make_source(settings: Settings) -> Source:
    """The registry if one is asked for, else the folder.

    Raises:
        LoadError: MLflow is not installed.
        ValueError: What is asked for is no model of a registry.
    """
    if not settings.registry:
        return FolderSource(settings.models)
    try:
        # MLflow takes seconds to load, and few servers need it.
        from tidegate.serve.registry import RegistrySource
    except ModuleNotFoundError as error:
        raise LoadError(
            f"--registry needs MLflow, but there is no module {error.name!r}: "
            "pip install 'tidegate[registry]'"
        ) from error
    return RegistrySource(settings.registry, settings.registry_uri, settings.max_parity_error)


def _versions(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        return ()
    versions = (
        path.parent.name
        for path in folder.glob("*/model.onnx")
        # "01" and "1" would be two names of one version.
        if path.parent.name.isascii() and path.parent.name.isdigit()
        if str(int(path.parent.name)) == path.parent.name
    )
    return tuple(sorted(versions, key=int))


def _read_aliases(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        aliases = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LoadError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(aliases, dict):
        raise LoadError(f'{path} must be an object such as {{"champion": "1"}}')
    return aliases


def _check_aliases(folder: Path, aliases: dict[str, str], versions: tuple[str, ...]) -> None:
    for alias, version in aliases.items():
        if version not in versions:
            raise LoadError(
                f"{folder / 'aliases.json'}: alias {alias!r} names version {version!r}; there is "
                f"{list(versions)}"
            )


def _checksum(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").partition(" ")[0].strip().lower()
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise LoadError(f"{path} cannot be read: {error}") from error
