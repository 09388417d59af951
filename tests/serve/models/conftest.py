"""A repository to publish into."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.publishing import publish

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository with version 1 of the model `m`."""
    publish(tmp_path, "1")
    return tmp_path
