"""Models and servers shared by the tests of the serving side."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from support import onnx_models
from support.server import running_server
from tidegate.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with one model of each kind."""
    folder = tmp_path_factory.mktemp("models")
    onnx_models.save(onnx_models.forecaster("gru"), folder, "gru")
    onnx_models.save(onnx_models.forecaster("lstm", seed=1), folder, "lstm")
    onnx_models.save(onnx_models.forecaster("gru", seed=2, differenced=True), folder, "difference")
    gaps = onnx_models.forecaster("gru", seed=3, allow_missing=True)
    onnx_models.save(gaps, folder, "gaps")
    explosive = onnx_models.forecaster("lstm", seed=6, explosive=True)
    onnx_models.save(explosive, folder, "explosive")
    onnx_models.save(onnx_models.labeller(), folder, "labeller")
    onnx_models.save(onnx_models.forecaster("gru", seed=4), folder, "versions", "2")
    onnx_models.save(onnx_models.forecaster("gru", seed=5), folder, "versions", "10")
    (folder / "versions" / "aliases.json").write_text('{"champion": "2"}')
    return folder


@pytest.fixture(scope="session")
def target(models: Path) -> Iterator[str]:
    """HOST:PORT of a real server over `models`."""
    with running_server(models) as address:
        yield address


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    """The server's command sends all logs to the stderr of its test, which ends with that."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def client(target: str) -> Iterator[Client]:
    with Client(target) as connected:
        yield connected
