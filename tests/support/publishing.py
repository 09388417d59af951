"""Versions and aliases of a model that come and go while a server runs."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from support import onnx_models
from tidegate.client import Client

if TYPE_CHECKING:
    from pathlib import Path


def publish(
    folder: Path, version: str, *, name: str = "m", checksum: str | None = None, **model: Any
) -> None:
    """Adds a version in one piece, as a publisher should."""
    onnx_model = onnx_models.forecaster("gru", seed=int(version), hidden=8, layers=1, **model)
    content = onnx_model.SerializeToString()
    path = folder / name / version / "model.onnx"
    path.parent.mkdir(parents=True)
    digest = checksum or hashlib.sha256(content).hexdigest()
    path.with_name("model.onnx.sha256").write_text(f"{digest}  model.onnx\n")
    path.with_suffix(".tmp").write_bytes(content)
    path.with_suffix(".tmp").replace(path)


def remove(folder: Path, version: str) -> None:
    (folder / "m" / version / "model.onnx").unlink()


def move_alias(folder: Path, version: str) -> None:
    path = folder / "m" / "aliases.json"
    path.with_suffix(".tmp").write_text(json.dumps({"champion": version}))
    path.with_suffix(".tmp").replace(path)


def versions(client: Client) -> list[str]:
    return [model.version for model in client.list_models()]
