"""Where a server finds a model."""

import hashlib
import json
from pathlib import Path

import pytest

from tidegate.train.publish import publish


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "exported.onnx"
    path.write_bytes(b"one")
    return path


def test_a_file_goes_to_its_name_and_version(file: Path, tmp_path: Path) -> None:
    target = publish(file, tmp_path / "models", "co2", "3")

    assert target == tmp_path / "models" / "co2" / "3" / "model.onnx"
    assert target.read_bytes() == b"one"
    assert not (tmp_path / "models" / "co2" / "aliases.json").exists()


def test_its_checksum_lies_beside_it_as_sha256sum_writes_it(file: Path, tmp_path: Path) -> None:
    target = publish(file, tmp_path, "co2", "1")

    digest = hashlib.sha256(b"one").hexdigest()
    assert target.with_name("model.onnx.sha256").read_text() == f"{digest}  model.onnx\n"


def test_an_alias_moves_and_the_others_stay(file: Path, tmp_path: Path) -> None:
    publish(file, tmp_path, "co2", "1", alias="champion")
    publish(file, tmp_path, "co2", "1", alias="stable")
    publish(file, tmp_path, "co2", "2", alias="champion")

    aliases = json.loads((tmp_path / "co2" / "aliases.json").read_text())
    assert aliases == {"champion": "2", "stable": "1"}


def test_a_published_version_never_changes(file: Path, tmp_path: Path) -> None:
    publish(file, tmp_path, "co2", "1")
    publish(file, tmp_path, "co2", "1")
    file.write_bytes(b"two")

    with pytest.raises(ValueError, match=r"version='1' of 'co2' exists in .*; give a new one"):
        publish(file, tmp_path, "co2", "1")

    assert (tmp_path / "co2" / "1" / "model.onnx").read_bytes() == b"one"


def test_a_version_that_is_no_number_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="version='latest' is no whole number"):
        publish(file, tmp_path, "co2", "latest")
