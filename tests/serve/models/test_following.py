"""Versions, aliases and files that the server follows, or leaves for their faults."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any

import pytest

from support import onnx_models
from support.metrics import Scraper, free_port
from support.publishing import move_alias, publish, remove, versions
from support.server import running_server
from support.waiting import wait_until
from tidegate.client import Client
from tidegate.serve.errors import LoadError
from tidegate.serve.repository import Repository
from tidegate.serve.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


def poll(repository: Repository) -> bool:
    return repository.apply(repository.prepare())


def repository(folder: Path, **limits: Any) -> Repository:
    return Repository(Settings(models=folder, provider="cpu", **limits))


def test_a_version_that_fails_keeps_the_old_one_is_counted_and_logged_once(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = repository(folder)
    before = served.list()
    publish(folder, "2", checksum="0" * 64)
    publish(folder, "3", looks_ahead=True)
    for _ in range(2):
        assert not poll(served)
    assert served.list() == before
    assert served.failures == {"m": 4}
    records = [record for record in caplog.records if record.levelno == logging.ERROR]
    damaged, looking_ahead = (record.getMessage() for record in records)
    assert "its publisher gave 000000" in damaged
    assert "it looks ahead" in looking_ahead


def test_a_failed_version_shows_in_the_metrics(folder: Path) -> None:
    port = free_port()
    with running_server(folder, poll_seconds=0.02, metrics_port=port) as target:
        publish(folder, "2", checksum="0" * 64)
        wait_until(lambda: Scraper(port).value("model_load_failures_total", model="m") > 0)
        with Client(target) as client:
            assert versions(client) == ["1"]


def test_a_version_that_was_not_written_to_its_end_is_taken_when_it_is(folder: Path) -> None:
    served = repository(folder)
    publish(folder, "2")
    path = folder / "m" / "2" / "model.onnx"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert not poll(served)
    path.write_bytes(whole)
    assert poll(served)
    assert served.get("m").version == "2"


def test_a_file_that_is_wrong_is_not_loaded_again_unchanged(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = repository(folder)
    publish(folder, "2", looks_ahead=True)
    assert not poll(served)

    def fail(*_: object) -> None:
        pytest.fail("the same file was loaded again")

    monkeypatch.setattr("tidegate.serve.repository.load_model", fail)
    assert not poll(served)
    assert served.failures == {"m": 2}
    monkeypatch.undo()
    path = folder / "m" / "2" / "model.onnx"
    good = onnx_models.forecaster("gru", seed=2, hidden=8, layers=1).SerializeToString()
    path.with_name("model.onnx.sha256").write_text(hashlib.sha256(good).hexdigest())
    path.write_bytes(good)
    assert poll(served)


def test_an_alias_whose_new_version_fails_stays_where_it_was(folder: Path) -> None:
    move_alias(folder, "1")
    served = repository(folder)
    publish(folder, "2", checksum="0" * 64)
    move_alias(folder, "2")
    remove(folder, "1")
    assert not poll(served)
    assert served.get("m", alias="champion").version == "1"


def test_a_source_that_cannot_be_read_changes_nothing(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = repository(folder)
    aliases = folder / "m" / "aliases.json"
    for content in ("{", '{"champion": "7"}'):
        aliases.write_text(content)
        assert not poll(served)
    aliases.unlink()
    (folder / "m").rename(folder.parent / "elsewhere")
    assert not poll(served)
    assert served.get("m").version == "1"
    assert served.failures == {"": 3}
    assert "is not readable JSON" in caplog.text
    assert "alias 'champion' names version '7'" in caplog.text
    assert "holds no <name>/<version>/model.onnx" in caplog.text


def test_a_version_over_the_memory_limit_is_refused_until_there_is_room(folder: Path) -> None:
    size = (folder / "m" / "1" / "model.onnx").stat().st_size
    served = repository(folder, max_model_bytes=2 * size + 100)
    publish(folder, "2")
    publish(folder, "3")
    assert poll(served)
    assert [model.version for model in served.list()] == ["1", "2"]
    assert served.failures == {"m": 1}
    remove(folder, "1")
    assert poll(served)
    # What leaves frees its room only once it has left.
    assert poll(served)
    assert [model.version for model in served.list()] == ["2", "3"]
    with pytest.raises(LoadError, match=r"over the limit of 100 \(--max-model-bytes\)"):
        repository(folder, max_model_bytes=100)
