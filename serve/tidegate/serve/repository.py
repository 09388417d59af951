"""The models of a folder: `<name>/<version>/model.onnx` and `<name>/aliases.json`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from tidegate.serve.errors import LoadError, NotFoundError
from tidegate.serve.model import Model, load_model

if TYPE_CHECKING:
    from pathlib import Path

    from tidegate.serve.settings import Settings


class Repository:
    """All models of a folder, loaded when the server starts.

    Args:
        settings: Names the folder, the provider and the threads.

    Raises:
        LoadError: There is no model, or one of them cannot be served.
    """

    def __init__(self, settings: Settings) -> None:
        self._models: dict[str, dict[str, Model]] = {}
        self._aliases: dict[str, dict[str, str]] = {}
        if not settings.models.is_dir():
            raise LoadError(f"models folder {settings.models} does not exist: pass --models FOLDER")
        for folder in sorted(settings.models.iterdir()):
            files = _version_files(folder)
            if files:
                self._load(folder, files, settings)
        if not self._models:
            raise LoadError(f"models folder {settings.models} holds no <name>/<version>/model.onnx")

    def _load(self, folder: Path, files: dict[str, Path], settings: Settings) -> None:
        aliases = _read_aliases(folder / "aliases.json", files)
        self._aliases[folder.name] = aliases
        self._models[folder.name] = {}
        for version, path in files.items():
            names = tuple(sorted(alias for alias, v in aliases.items() if v == version))
            model = load_model(folder.name, version, path, settings)
            self._models[folder.name][version] = replace(model, aliases=names)

    def list(self) -> list[Model]:
        """All models, by name and version."""
        return [model for versions in self._models.values() for model in versions.values()]

    def get(self, name: str, *, version: str = "", alias: str = "") -> Model:
        """Finds a model; without version and alias, its highest version.

        Raises:
            NotFoundError: The text lists what there is.
        """
        versions = self._models.get(name)
        if versions is None:
            raise NotFoundError(
                f"there is no model {name!r}; this server has {sorted(self._models)}"
            )
        if alias:
            aliases = self._aliases[name]
            if alias not in aliases:
                raise NotFoundError(
                    f"model {name!r} has no alias {alias!r}; it has {sorted(aliases)}"
                )
            return versions[aliases[alias]]
        if not version:
            return versions[max(versions, key=int)]
        if version not in versions:
            raise NotFoundError(
                f"model {name!r} has no version {version!r}; it has {sorted(versions, key=int)}"
            )
        return versions[version]


def _version_files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    files = {
        path.parent.name: path
        for path in folder.glob("*/model.onnx")
        # "01" and "1" would be two names of one version.
        if path.parent.name.isascii() and path.parent.name.isdigit()
        if str(int(path.parent.name)) == path.parent.name
    }
    return dict(sorted(files.items(), key=lambda item: int(item[0])))


def _read_aliases(path: Path, versions: dict[str, Path]) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        aliases = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LoadError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(aliases, dict):
        raise LoadError(f'{path} must be an object such as {{"champion": "1"}}')
    for alias, version in aliases.items():
        if version not in versions:
            raise LoadError(
                f"{path}: alias {alias!r} names version {version!r}; there is {sorted(versions)}"
            )
    return aliases
