"""A stream beside each test, which no refusal may disturb."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from support.refusals import values
from tidegate.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def bystander(target: str) -> Iterator[None]:
    """Another stream, which must go on with the right numbers whatever a test does."""
    rows = values(2, seed=9)
    with Client(target) as client, client.stream("gru", ["bystander"]) as stream:
        stream.step("bystander", rows[0])
        yield
        after = stream.step("bystander", rows[1])
        np.testing.assert_array_equal(after, client.forecast("gru", [rows])[0])
