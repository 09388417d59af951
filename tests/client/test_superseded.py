"""A new version of the model: live streams over a socket restart on it, or are told."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from support import publishing
from support.protocol import values
from support.server import running_server
from tidegate.client import Client, Superseded, SupersededError, aio

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import ArrayLike

ROWS = values(30)
publish = partial(publishing.publish, name="gru", differenced=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    publish(tmp_path, "1")
    return tmp_path


def test_a_stream_over_a_socket_restarts_in_time_by_itself(folder: Path) -> None:
    limits = {"poll_seconds": 0.02, "drain_old": 0.05, "drain_seconds": 30}
    with (
        running_server(folder, **limits) as target,
        Client(target) as client,
        client.stream("gru", ["a"], history=4) as stream,
    ):
        count = 0
        publish(folder, "2")
        while stream.model == "gru/1":
            stream.step("a", ROWS[count % len(ROWS)])
            count += 1
        rows = [ROWS[number % len(ROWS)] for number in range(max(0, count - 5), count)]
        last = stream.step("a", ROWS[0])
        with client.stream("gru/2", ["b"]) as other:
            expected = other.send("b", [*rows, ROWS[0]])[-1]
        np.testing.assert_array_equal(last, expected)
        assert stream.next_offset("a") == count + 1


async def test_the_awaited_client_restarts_even_when_its_stream_was_ended(folder: Path) -> None:
    told: list[Superseded] = []

    async def choose(notice: Superseded) -> Mapping[str, ArrayLike]:
        told.append(notice)
        return {}

    limits = {"poll_seconds": 0.02, "drain_old": 0, "drain_seconds": 0}
    with running_server(folder, **limits) as target:
        async with (
            aio.Client(target) as client,
            await client.stream("gru", ["a"], on_superseded=choose) as stream,
        ):
            publish(folder, "2")
            while stream.model == "gru/1":
                await stream.step("a", ROWS[0])
            assert [notice.successor for notice in told] == ["gru/2"]
            assert stream.next_offset("a") > 0


def test_who_wants_no_restart_is_told_when_the_server_ends_the_stream(folder: Path) -> None:
    limits = {"poll_seconds": 0.02, "drain_old": 0, "drain_seconds": 0}
    with running_server(folder, **limits) as target, Client(target) as client:
        stream = client.stream("gru", ["a"], on_superseded=None)
        publish(folder, "2")
        with pytest.raises(SupersededError, match=r"version 1 was replaced by version 2"):
            _ = [*stream.map({"a": row[None]} for row in itertools.cycle(ROWS))]
        stream.close()
