"""A series that replicas share by Redis: found by its key, held by one of them."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest
import redis

from support.redis_server import RedisServer, needs_redis
from support.replicas import (
    Replica,
    flush,
    started_offset,
    stored_offset,
    values,
)
from support.server import ServerProcess
from support.streams import Wire
from tidegate.client import AlreadyExistsError, Client
from tidegate.serve.errors import Code

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@needs_redis
@pytest.mark.parametrize("model", ["gru", "lstm", "difference"])
def test_another_replica_finds_a_series_by_its_key_after_a_kill(
    models: Path, key_file: Path, store: RedisServer, client: Client, model: str
) -> None:
    rows = values(20)
    with client.stream(model, ["undisturbed"], every_step=True) as undisturbed:
        expected = undisturbed.send("undisturbed", rows)
    options = ["--checkpoint-key-file", str(key_file), "--state-store", store.url]
    forecasts: dict[int, NDArray[np.float32]] = {}
    with ServerProcess(models, *options) as first, ServerProcess(models, *options) as second:
        with Client(first.target) as one:
            stream = one.stream(model, ["a"])
            for offset in range(11):
                forecasts[offset] = stream.step("a", rows[offset])
            first.send(signal.SIGKILL)
            first.wait()
            stream.close(keep=True)
        with Client(second.target) as two, two.stream(model, ["a"], take_over=True) as stream:
            # The last writes may be lost with the process: it says where to go on.
            resumed = stream.next_offset("a")
            assert resumed <= 11
            for offset in range(resumed, 20):
                forecasts[offset] = stream.step("a", rows[offset])
    np.testing.assert_array_equal([forecasts[offset] for offset in range(20)], expected)


@needs_redis
def test_after_a_drain_another_replica_goes_on_at_the_last_offset(
    models: Path, key_file: Path, store: RedisServer
) -> None:
    options = ["--checkpoint-key-file", str(key_file), "--state-store", store.url]
    with ServerProcess(models, *options) as first, ServerProcess(models, *options) as second:
        with Client(first.target) as client:
            stream = client.stream("gru", ["a"])
            stream.send("a", values(7))
            with Client(second.target) as other, pytest.raises(AlreadyExistsError, match="server"):
                other.stream("gru", ["a"])
            stream.close(keep=True)
        first.send(signal.SIGTERM)
        assert first.wait()[0] == 0
        with Client(second.target) as client, client.stream("gru", ["a"]) as stream:
            assert stream.next_offset("a") == 7


@needs_redis
async def test_a_series_live_on_another_replica_is_refused_without_the_flag(
    replica: Replica,
) -> None:
    async with replica() as one, replica() as two:
        await Wire(one).start("gru", "a")
        (error,) = await Wire(two).start_refused("gru", "a")
        assert error.code == Code.ALREADY_EXISTS
        assert "series 'a' is live on another server" in error.message
        assert await started_offset(Wire(two), take_over=True) == 0


@needs_redis
async def test_a_series_kept_on_another_replica_goes_on_here(
    replica: Replica,
) -> None:
    async with replica() as one, replica() as two:
        wire = Wire(one)
        (handle,) = await wire.start("gru", "a")
        await wire.observe(handle, 0, values(5))
        one.close_stream(wire.call)
        await flush(one)
        wire = Wire(two)
        assert await started_offset(wire) == 5
        await wire.observe(0, 5, values(2))
        two.close_stream(wire.call)
        await flush(two)
        # The first has kept an older state, which must not be used.
        assert await started_offset(Wire(one)) == 7


@needs_redis
async def test_a_replica_that_lost_a_series_is_fenced_off_and_told(
    replica: Replica, database: redis.Redis
) -> None:
    async with replica() as one, replica() as two:
        older, newer = Wire(one), Wire(two)
        (handle,) = await older.start("gru", "a")
        await older.observe(handle, 0, values(3))
        await flush(one)
        (taken,) = await newer.start("gru", "a", take_over=True)
        await newer.observe(taken, 3, values(2))
        await flush(two)
        assert older.notices == []
        await older.observe(handle, 3, values(9))
        await flush(one)
        (notice,) = older.notices
        assert (notice.error.key, notice.error.code) == ("a", Code.ABORTED)
        assert "was taken over on another server: go on there, or start" in notice.error.message
        (refused, _) = await older.observe(handle, 12, values(1))
        assert refused.error.code == Code.ABORTED
        assert stored_offset(one, database, "a") == 5
        assert one.store_status is not None
        assert one.store_status.refused == 1
        assert [table.slots.used for table in one.tables] == [0]


@needs_redis
async def test_a_series_of_another_identity_is_refused_on_every_replica(
    replica: Replica,
) -> None:
    async with replica() as one, replica() as two:
        await Wire(one, "ann").start("gru", "a")
        await flush(one)
        for options in ({}, {"take_over": True}, {"take_over": True, "reset": True}):
            (error,) = await Wire(two, "bob").start_refused("gru", "a", **options)
            assert error.code == Code.PERMISSION_DENIED


@needs_redis
async def test_a_finished_series_begins_anew_everywhere(
    replica: Replica, database: redis.Redis
) -> None:
    async with replica() as one, replica() as two:
        wire = Wire(one, "ann")
        (handle,) = await wire.start("gru", "a")
        await wire.observe(handle, 0, values(3))
        await flush(one)
        await wire.finish(handle)
        await flush(one)
        assert database.hkeys("tidegate/gru/1/a") == [b"f"]
        other = Wire(two, "bob")
        assert await started_offset(other) == 0


@needs_redis
async def test_a_late_writer_cannot_bring_a_finished_series_back(
    replica: Replica, database: redis.Redis
) -> None:
    async with replica() as one, replica() as two:
        older, newer = Wire(one), Wire(two)
        (handle,) = await older.start("gru", "a")
        (taken,) = await newer.start("gru", "a", take_over=True)
        await newer.finish(taken)
        await flush(two)
        await older.observe(handle, 0, values(3))
        await flush(one)
        assert database.hkeys("tidegate/gru/1/a") == [b"f"]
        assert await started_offset(Wire(two)) == 0


@needs_redis
async def test_a_start_that_fails_gives_its_claim_back(
    replica: Replica,
) -> None:
    async with replica(max_series=1) as one, replica() as two:
        await Wire(one).start("gru", "full")
        (error,) = await Wire(one).start_refused("gru", "a")
        assert error.code == Code.RESOURCE_EXHAUSTED
        await flush(one)
        assert await started_offset(Wire(two)) == 0


@needs_redis
async def test_a_start_whose_stream_ends_meanwhile_gives_its_claim_back(
    replica: Replica, store: RedisServer
) -> None:
    async with replica(state_timeout_seconds=5) as one, replica(state_timeout_seconds=5) as two:
        wire = Wire(one)
        await wire.start("gru", "first")
        await flush(one)
        store.pause()
        starting = asyncio.get_running_loop().create_task(wire.start("gru", "a"))
        for _ in range(10):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        one.close_stream(wire.call)
        store.go_on()
        # Answered after the claim on the same connection pool.
        await Wire(one).start("gru", "b")
        await flush(one)
        assert await started_offset(Wire(two)) == 0
