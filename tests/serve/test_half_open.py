"""A network that passes nothing on any more, and says so to nobody."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest

from support.metrics import Scraper, free_port
from support.proxy import Proxy
from support.server import running_server
from tidegate.client import Retry, aio
from tidegate.client.channel import OPTIONS

if TYPE_CHECKING:
    from pathlib import Path

ROWS = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
QUICK = {
    "grpc.keepalive_time_ms": 100,
    "grpc.keepalive_timeout_ms": 200,
    "grpc.http2.ping_timeout_ms": 200,
}


async def test_a_server_ends_the_streams_of_clients_that_it_does_not_hear_and_keeps_their_series(
    models: Path,
) -> None:
    port = free_port()
    metrics = Scraper(port)
    with running_server(models, keepalive_seconds=0.3, metrics_port=port) as target:
        async with (
            Proxy(int(target.rpartition(":")[2])) as proxy,
            aio.Client(proxy.target, retry=Retry(seconds=0)) as unheard,
            aio.Client(target) as client,
        ):
            stream = await unheard.stream("gru", ["a"])
            await stream.send("a", ROWS[:4])
            proxy.fall_silent()
            while await asyncio.to_thread(metrics.value, "streams"):
                pass
            async with await client.stream("gru", ["a"]) as again:
                assert again.next_offset("a") == 4
                last = await again.send("a", ROWS[4:])
            np.testing.assert_array_equal(last[-1], (await client.forecast("gru", [ROWS]))[0])
            stream._call.cancel()


async def test_a_client_leaves_a_server_that_it_does_not_hear(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.client.aio.client.OPTIONS", [*(dict(OPTIONS) | QUICK).items()])
    key_file = tmp_path / "checkpoint.key"
    key_file.write_bytes(bytes(32))
    options = {"checkpoint_key_file": key_file, "keepalive_seconds": 0.2}
    with running_server(models, **options) as first, running_server(models, **options) as second:
        async with (
            Proxy(int(first.rpartition(":")[2])) as proxy,
            aio.Client([proxy.target, second]) as client,
            await client.stream("gru", ["a"], checkpoint_every=2) as stream,
        ):
            await stream.send("a", ROWS[:3])
            proxy.fall_silent()
            last = await stream.send("a", ROWS[3:])
            async with aio.Client(second) as other:
                np.testing.assert_array_equal(last[-1], (await other.forecast("gru", [ROWS]))[0])
