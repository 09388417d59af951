"""What training registers in MLflow, the server serves from there."""

from __future__ import annotations

import hashlib
import logging
import os
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import onnx
import pytest

from support import onnx_models
from support.server import running_server
from support.waiting import wait_until
from tidegate.client import Client
from tidegate.serve.errors import LoadError
from tidegate.serve.registry import Reference, parse
from tidegate.serve.repository import Repository
from tidegate.serve.settings import Settings
from tidegate.train import tracking

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")


class Registry:
    """A real MLflow with its models."""

    def __init__(self, uri: str, name: str, folder: Path) -> None:
        self.uri = uri
        self.name = name
        self._folder = folder

    def register(self, seed: int, value: float) -> tracking.Registered:
        """Registers a version as training does; a higher value is champion."""
        model = onnx_models.forecaster("gru", seed=seed, hidden=8, layers=1)
        path = self._folder / f"{seed}.onnx"
        onnx.save(model, path)
        score = tracking.Score("accuracy", value, True, "data")
        with tracking.start_run(self.uri, "experiment", f"run {seed}", {}) as run:
            return run.register(path, onnx_models.spec_of(model), self.name, score)

    @property
    def client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(self.uri, self.uri)

    def options(self, uris: str = "") -> dict[str, Any]:
        uris = uris or f"models:/{self.name}@champion"
        return {"registry": uris, "registry_uri": self.uri, "provider": "cpu"}


@pytest.fixture(scope="module")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow's database; making one takes seconds."""
    yield f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    # Back to nothing set: MLflow keeps both in itself and in the environment.
    mlflow.set_tracking_uri("")
    mlflow.set_registry_uri("")
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ.pop("MLFLOW_REGISTRY_URI", None)


@pytest.fixture
def registry(mlflow_uri: str, tmp_path: Path, request: pytest.FixtureRequest) -> Registry:
    """A model of its own for each test."""
    return Registry(mlflow_uri, request.node.name, tmp_path)


def test_the_champion_is_served_and_the_next_one_takes_its_place(
    registry: Registry, tmp_path: Path
) -> None:
    first = registry.register(1, 0.5)
    # The server goes by its own settings.
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/another.db")
    with (
        running_server(tmp_path / "nowhere", poll_seconds=0.05, **registry.options()) as target,
        Client(target) as client,
    ):
        (info,) = client.list_models()
        assert (info.name, info.version, info.aliases) == (
            registry.name,
            first.version,
            ("champion",),
        )
        assert info.sha256 == hashlib.sha256((tmp_path / "1.onnx").read_bytes()).hexdigest()
        before = client.forecast(f"{registry.name}@champion", [ROWS])
        with client.stream(registry.name, ["live"]) as stream:
            stream.send("live", ROWS[:4])
            second = registry.register(2, 0.9)
            assert second.is_champion
            wait_until(
                lambda: [m.version for m in client.list_models()] == [second.version], seconds=30
            )
            last = stream.send("live", ROWS[4:])
        np.testing.assert_array_equal(last[-1], before[0])
        assert not np.array_equal(client.forecast(f"{registry.name}@champion", [ROWS]), before)


def test_a_version_without_rightful_tags_is_refused_and_the_old_one_stays(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    champion = registry.register(1, 0.5)
    served = Repository(Settings(**registry.options()))
    for seed, tag, value, text in (
        (2, "sha256", "0" * 64, "its publisher gave 000000"),
        (3, "sha256", "none", "has the tag sha256='none': register it with tidegate-train"),
        (4, "parity_max_abs", "0.5", "at most 0.001 is served (--max-parity-error)"),
        (5, "parity_max_abs", "nan", "has the tag parity_max_abs='nan'"),
        (6, "parity_max_abs", "small", "has the tag parity_max_abs='small'"),
    ):
        version = registry.register(seed, 0.5).version
        registry.client.set_model_version_tag(registry.name, version, tag, value)
        registry.client.set_registered_model_alias(registry.name, "champion", version)
        assert not served.apply(served.prepare())
        assert text in caplog.records[-1].getMessage()
    assert served.get(registry.name, alias="champion").version == champion.version
    assert served.failures == {registry.name: 5}


def test_a_registry_that_fails_changes_nothing_and_is_asked_again(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    champion = registry.register(1, 0.5)
    served = Repository(Settings(**registry.options()))
    registry.client.delete_registered_model_alias(registry.name, "champion")
    with caplog.at_level(logging.ERROR):
        assert not served.apply(served.prepare())
    assert _failing(served)
    assert f"models:/{registry.name}@champion cannot be read from the registry" in caplog.text
    registry.client.set_registered_model_alias(registry.name, "champion", champion.version)
    assert not served.apply(served.prepare())
    assert not _failing(served)
    assert served.get(registry.name).version == champion.version


def _failing(served: Repository) -> bool:
    return served.is_source_failing


def test_several_models_and_pinned_versions_are_served_together(registry: Registry) -> None:
    name = registry.name
    registry.register(1, 0.5)
    registry.register(2, 0.4)
    served = Repository(Settings(**registry.options(f"models:/{name}@champion, models:/{name}/2")))
    assert [(m.version, served.aliases(m)) for m in served.list()] == [
        ("1", ("champion",)),
        ("2", ()),
    ]


def test_a_model_that_is_not_registered_is_named_at_the_start(registry: Registry) -> None:
    registry.register(1, 0.5)
    with pytest.raises(LoadError, match="models:/nope@champion cannot be read from the registry"):
        Repository(Settings(**registry.options("models:/nope@champion")))


def test_references_are_models_uris_with_an_alias_or_a_version() -> None:
    assert parse("models:/a@b, models:/c d/12") == [
        Reference("a", "b", ""),
        Reference("c d", "", "12"),
    ]
    for wrong in ("", "a@b", "models:/a", "models:/a/0", "models:/a@b@c", "models:/a@b,"):
        with pytest.raises(ValueError, match="write models:/NAME@ALIAS or models:/NAME/VERSION"):
            parse(wrong)
