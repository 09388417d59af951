"""Models from MLflow's registry: the one file of the server that knows MLflow.

It is imported only where a registry is asked for: MLflow takes seconds to load.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import tempfile
import weakref
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tidegate.serve.errors import LoadError
from tidegate.serve.source import Fetched, Listed

# MLflow reads the switch of its telemetry while it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
import mlflow.artifacts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlflow.entities.model_registry import ModelVersion

_URI = re.compile(r"models:/(?P<name>[^/@,]+)(@(?P<alias>[^/@,]+)|/(?P<version>[1-9][0-9]*))")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Reference(NamedTuple):
    """One model to serve: a version, or the one that an alias names."""

    name: str
    alias: str
    version: str


class RegistrySource:
    """Registered models, by alias or version.

    MLflow checks no artifact, so each version must carry the tags `sha256` (of
    the ONNX file) and `parity_max_abs` (the largest difference between ONNX
    Runtime and PyTorch), as `tidegate-train fit` writes them.

    Args:
        uris: Such as "models:/co2@champion" or "models:/co2/3", with commas between.
        registry_uri: Of the registry; empty: as MLflow's own environment says.
        max_parity_error: A version with more in `parity_max_abs` is refused.

    Raises:
        ValueError: A URI is none of a model, or two name the same alias.
    """

    def __init__(self, uris: str, registry_uri: str, max_parity_error: float) -> None:
        self._references = parse(uris)
        if registry_uri:
            # For the whole process: given to a single download, MLflow forgets it on the
            # way from a version to the logged model behind it.
            mlflow.set_tracking_uri(registry_uri)
            mlflow.set_registry_uri(registry_uri)
        self._client = mlflow.MlflowClient()
        self._max_parity_error = max_parity_error
        self._folder = tempfile.mkdtemp(prefix="tidegate-models-")
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._fetched: dict[tuple[str, str], Fetched] = {}

    def list(self) -> dict[str, Listed]:
        """See `Source.list`: the versions that are asked for, with the aliases asked for."""
        versions: dict[str, set[str]] = {}
        aliases: dict[str, dict[str, str]] = {}
        for name, alias, number in self._references:
            version = number
            if alias:
                with _load_errors(f"models:/{name}@{alias}"):
                    version = str(self._client.get_model_version_by_alias(name, alias).version)
                aliases.setdefault(name, {})[alias] = version
            versions.setdefault(name, set()).add(version)
        return {
            name: Listed(tuple(sorted(numbers, key=int)), aliases.get(name, {}))
            for name, numbers in versions.items()
        }

    def fetch(self, name: str, version: str) -> Fetched:
        """See `Source.fetch`."""
        if (name, version) not in self._fetched:
            uri = f"models:/{name}/{version}"
            with _load_errors(uri):
                tags = self._client.get_model_version(name, version)
            sha256 = self._checked(uri, tags)
            with _load_errors(uri):
                folder = mlflow.artifacts.download_artifacts(
                    artifact_uri=uri,
                    dst_path=tempfile.mkdtemp(dir=self._folder),
                )
            self._fetched[name, version] = Fetched(_onnx_file(uri, Path(folder)), sha256)
        return self._fetched[name, version]

    def _checked(self, uri: str, version: ModelVersion) -> str:
        """The version's checksum, if its tags are those of a model that may be served."""
        sha256, parity = version.tags.get("sha256", ""), version.tags.get("parity_max_abs", "")
        if not _SHA256.fullmatch(sha256):
            raise LoadError(
                f"{uri} has the tag sha256={sha256!r}: register it with tidegate-train, or set "
                "the tag to the SHA-256 of its ONNX file"
            )
        error = _number(parity)
        if not error <= self._max_parity_error:
            raise LoadError(
                f"{uri} has the tag parity_max_abs={parity!r}; at most {self._max_parity_error:g} "
                "is served (--max-parity-error): export it again, or raise the limit"
            )
        return sha256


def parse(uris: str) -> Sequence[Reference]:
    """Takes "models:/a@champion,models:/b/3" apart.

    Raises:
        ValueError: The text names the part that is wrong.
    """
    references = []
    for uri in uris.split(","):
        match = _URI.fullmatch(uri.strip())
        if match is None:
            raise ValueError(
                f"registry has {uri.strip()!r}; write models:/NAME@ALIAS or models:/NAME/VERSION, "
                "with commas between several"
            )
        parts = match.groupdict(default="")
        references.append(Reference(parts["name"], parts["alias"], parts["version"]))
    return references


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _onnx_file(uri: str, folder: Path) -> Path:
    files = sorted(folder.rglob("*.onnx"))
    if len(files) != 1:
        names = [file.name for file in files]
        raise LoadError(f"{uri} has the ONNX files {names}; exactly one is served")
    return files[0]


@contextmanager
def _load_errors(uri: str) -> Iterator[None]:
    """MLflow raises its own exceptions, and those of what it talks through."""
    try:
        yield
    except Exception as error:
        raise LoadError(f"{uri} cannot be read from the registry: {error}") from error
