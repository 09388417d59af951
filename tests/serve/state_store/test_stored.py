"""What stands in Redis: offset and state of one moment, for a while, believed if signed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import redis

from support.redis_server import needs_redis
from support.replicas import (
    Replica,
    flush,
    started_offset,
    values,
)
from support.streams import Wire
from tidegate.serve.errors import Code
from tidegate.serve.settings import Settings
from tidegate.serve.slots import DeviceSlots
from tidegate.serve.store import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from tidegate.serve.model import Model


@needs_redis
async def test_what_is_stored_has_a_time_to_live(replica: Replica, database: redis.Redis) -> None:
    async with replica(state_ttl_seconds=500) as one:
        await Wire(one).start("gru", "a")
        await flush(one)
        assert 400_000 < database.pttl("tidegate/gru/1/a") <= 500_000


@needs_redis
async def test_state_and_offset_are_never_of_different_moments(
    replica: Replica, database: redis.Redis
) -> None:
    rows = values(60)
    async with replica() as one:
        wire = Wire(one)
        (handle,) = await wire.start("gru", "a")
        model = one.repository.get("gru")
        seen = set()
        for offset in range(60):
            await wire.observe(handle, offset, rows[offset : offset + 1])
            value = database.hget("tidegate/gru/1/a", "v")
            if isinstance(value, bytes):
                restored = one.signer.open(value, model, "a", "")
                seen.add((restored.next_offset, restored.states[0]))
        alone = Wire(one)
        (other,) = await alone.start("gru", "alone")
        table, _ = one.series(model)
        states = {0: table.slots.read(other)[0]}
        for offset in range(60):
            await alone.observe(other, offset, rows[offset : offset + 1])
            states[offset + 1] = table.slots.read(other)[0]
    assert seen <= set(states.items())
    assert len(seen) > 1


@needs_redis
async def test_states_in_device_memory_are_stored_and_go_on_elsewhere(
    replica: Replica, database: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_the_device(model: Model, limit: int) -> DeviceSlots:
        return DeviceSlots(model.states, limit, model.session.provider)

    monkeypatch.setattr("tidegate.serve.streams.slots_of", on_the_device)
    async with replica() as one:
        wire = Wire(one)
        (handle,) = await wire.start("gru", "a")
        await wire.observe(handle, 0, values(5))
        states = one.tables[0].slots.read(handle)
        await flush(one)
        value = database.hget("tidegate/gru/1/a", "v")
        assert isinstance(value, bytes)
        model = one.repository.get("gru")
        assert one.signer.open(value, model, "a", "").states == states
        one.close_stream(wire.call)
        await flush(one)
    monkeypatch.undo()
    async with replica() as other:
        assert await started_offset(Wire(other)) == 5
        assert other.tables[0].slots.read(0) == states


@needs_redis
async def test_a_series_that_was_dropped_here_goes_on_from_the_store(
    replica: Replica,
) -> None:
    async with replica(idle_seconds=0) as one:
        wire = Wire(one)
        (handle,) = await wire.start("gru", "a")
        await wire.observe(handle, 0, values(3))
        one.close_stream(wire.call)
        assert [table.slots.used for table in one.tables] == [0]
        # It may still wait to be written: that counts.
        assert await started_offset(Wire(one)) == 3


@needs_redis
async def test_a_stored_value_that_was_changed_is_refused_and_a_reset_helps(
    replica: Replica, database: redis.Redis
) -> None:
    async with replica() as one:
        database.hset("tidegate/gru/1/a", mapping={"f": "1", "i": "", "h": "", "v": "junk"})
        (error,) = await Wire(one).start_refused("gru", "a")
        assert error.code == Code.INVALID_ARGUMENT
        assert "the stored state of series 'a' cannot be used: the checkpoint is" in error.message
        assert await started_offset(Wire(one), reset=True) == 0


@needs_redis
async def test_the_password_is_that_of_its_file_at_each_connection(
    tmp_path: Path, replica: Replica, database: redis.Redis
) -> None:
    password = tmp_path / "password"
    password.write_text("first\n")
    database.config_set("requirepass", "first")
    async with replica(state_store_password_file=password) as one:
        await Wire(one).start("gru", "a")
        password.write_text("second")
        database.config_set("requirepass", "second")
        # Connections made before the change would go on.
        database.client_kill_filter(_type="normal", skipme=True)
        await Wire(one).start("gru", "b")
        await flush(one)
        assert database.exists("tidegate/gru/1/a", "tidegate/gru/1/b") == 2


def test_a_password_file_that_cannot_be_used_is_refused(key_file: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    options: dict[str, Any] = {"checkpoint_key_file": key_file}
    options["state_store_password_file"] = missing
    with pytest.raises(ValueError, match=r"state_store_password_file .*missing cannot be read"):
        open_store(Settings(state_store="redis://localhost/0", **options))
    with pytest.raises(ValueError, match="state_store has a user or a password") as refused:
        open_store(Settings(state_store="redis://:secret@localhost/0", **options))
    assert "secret" not in str(refused.value)


def test_a_store_that_cannot_work_is_refused_without_its_password(key_file: Path) -> None:
    with pytest.raises(ValueError, match="redis needs --checkpoint-key-file"):
        open_store(Settings(state_store="redis://:secret@localhost/0"))
    with pytest.raises(ValueError, match="state_store is 'mysql': use 'memory' or") as refused:
        open_store(Settings(state_store="mysql://:secret@localhost", checkpoint_key_file=key_file))
    assert "secret" not in str(refused.value)
    assert open_store(Settings()) is None
