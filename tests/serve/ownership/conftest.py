"""A table of three series, and a service without a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support import onnx_models
from support.ownership import Clock
from tidegate.serve.checkpoint import CheckpointSigner
from tidegate.serve.model import Model
from tidegate.serve.service import Service
from tidegate.serve.settings import Settings
from tidegate.serve.streams import SeriesTable

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def model(models: Path) -> Model:
    return onnx_models.load(models, "gru")


@pytest.fixture
def table(model: Model, clock: Clock) -> SeriesTable:
    settings = Settings(idle_seconds=60, max_series=3)
    return SeriesTable(model, settings, CheckpointSigner([b"k" * 32]), clock=clock)


@pytest.fixture
async def service(models: Path) -> Any:
    service = Service(Settings(models=models, provider="cpu"))
    yield service
    service.close()
