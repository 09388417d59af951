"""One deployment for all tests of it; a test that stops a service starts it again."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

import pytest

from support.compose import Deployment, engine_answers

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if item.path.parent.name == "compose"]
    for item in ours:
        for mark in (pytest.mark.compose, pytest.mark.timeout(1800)):
            item.add_marker(mark)


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    if not engine_answers():
        pytest.skip("no Docker engine answers")
    # A name of its own: two runs on one engine do not stop each other's containers.
    name = f"tidegate-test-{secrets.token_hex(4)}"
    project = Deployment(name, tmp_path_factory.mktemp("compose"))
    began = time.monotonic()
    project.make("secrets", "certs")
    project.compose("--profile", "train", "build")
    built = time.monotonic()
    try:
        project.make("up")
        print(f"\nbuilt in {built - began:.0f} s, up in {time.monotonic() - built:.0f} s")
        yield project
    finally:
        project.compose("--profile", "train", "down", "--volumes", "--timeout", "5")
