"""Tokens of each role, and the log of the calls."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from support.security import Ends, table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def ends(caplog: pytest.LogCaptureFixture) -> Iterator[Ends]:
    handler = Ends()
    logging.getLogger().addHandler(handler)
    with caplog.at_level(logging.INFO):
        yield handler
    logging.getLogger().removeHandler(handler)


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(
        table("sensors", '["infer"]')
        + table("dashboard", '["read"]')
        + table("operator", '["admin"]')
        + table("both", '["infer", "read"]')
    )
    return path
