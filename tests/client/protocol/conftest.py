"""Two replicas of one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support import onnx_models
from tidegate.serve.service import Service
from tidegate.serve.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "checkpoint.key"
    path.write_bytes(bytes(32))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    onnx_models.save(onnx_models.forecaster("gru", differenced=True), path, "gru")
    return path


@pytest.fixture
def services(folder: Path, key_file: Path) -> Iterator[list[Service]]:
    """Two replicas."""
    options = Settings(models=folder, provider="cpu", checkpoint_key_file=key_file)
    made = [Service(options), Service(options)]
    yield made
    for service in made:
        service.close()
