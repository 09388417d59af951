"""States in Redis: found by other replicas, never mixed, and missed by nobody while it is gone."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import grpc
import numpy as np
import pytest
import redis
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.redis_server import RedisServer, needs_redis
from support.server import ServerProcess
from support.streams import RawStream, Wire
from tidegate.client import AlreadyExistsError, Client
from tidegate.serve.checkpoint import CheckpointSigner
from tidegate.serve.errors import Code
from tidegate.serve.metrics import ServiceCollector
from tidegate.serve.service import Service
from tidegate.serve.settings import Settings
from tidegate.serve.store import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from numpy.typing import NDArray

KEY = bytes(range(32))


def values(rows: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.key"
    path.write_bytes(KEY)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def database(store: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(store.url) as connection:
        yield connection


class Replica(Protocol):
    """Makes a replica without a socket."""

    def __call__(self, **options: Any) -> AbstractAsyncContextManager[Service]: ...


@pytest.fixture
def replica(models: Path, key_file: Path, store: RedisServer) -> Replica:
    """Makes replicas without sockets."""

    @asynccontextmanager
    async def make(**options: Any) -> AsyncIterator[Service]:
        settings: dict[str, Any] = {"checkpoint_key_file": key_file, "state_store": store.url}
        settings |= {"state_timeout_seconds": 0.2} | options
        service = Service(Settings(models=models, provider="cpu", **settings))
        service.start()
        try:
            yield service
        finally:
            await service.stop(0)

    return make


async def flush(service: Service) -> None:
    assert service.journal is not None
    await service.journal.flush()


async def available(service: Service, expected: bool) -> None:
    """Waits until the service has noticed."""
    status = service.store_status
    assert status is not None
    seen: asyncio.Queue[bool] = asyncio.Queue()
    service.on_store = seen.put_nowait
    while status.available != expected:
        await seen.get()


async def started_offset(wire: Wire, **options: Any) -> int:
    (response,) = await wire.start_responses("gru", "a", **options)
    return response.started.series[0].next_offset


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
async def test_streams_go_on_while_redis_is_gone_and_it_is_caught_up(
    replica: Replica, store: RedisServer, database: redis.Redis
) -> None:
    async with replica() as one, replica() as two:
        live, idle = Wire(one), Wire(one)
        (handle,) = await live.start("gru", "a")
        (still,) = await idle.start("gru", "idle")
        await idle.observe(still, 0, values(4))
        await flush(one)
        store.kill()
        await live.observe(handle, 0, values(3))
        await available(one, expected=False)
        (answer,) = await live.observe(handle, 3, values(2))
        assert answer.forecasts.offsets == [4]
        assert is_behind(one)
        # It comes back without its data: also what did not change is written again.
        store.start()
        await flush(one)
        assert not is_behind(one)
        assert (stored_offset(one, database, "a"), stored_offset(one, database, "idle")) == (5, 4)
        await available(one, expected=True)
        assert await started_offset(Wire(two), take_over=True) == 5


@needs_redis
async def test_metrics_say_how_the_store_does(replica: Replica, store: RedisServer) -> None:
    def shown(service: Service) -> dict[str, float]:
        families = ServiceCollector(service).collect()
        samples = [sample for family in families for sample in family.samples]
        return {sample.name: sample.value for sample in samples if "state_store" in sample.name}

    async with replica() as one:
        wire = Wire(one)
        (handle,) = await wire.start("gru", "a")
        await flush(one)
        well = shown(one)
        assert well["tidegate_state_store_available"] == 1
        assert well["tidegate_state_store_written_total"] > 0
        assert well["tidegate_state_store_behind_seconds"] == 0
        store.kill()
        await wire.observe(handle, 0, values(1))
        await available(one, expected=False)
        gone = shown(one)
        assert gone["tidegate_state_store_available"] == 0
        assert gone["tidegate_state_store_failures_total"] > 0
        assert gone["tidegate_state_store_behind_seconds"] > 0


@needs_redis
async def test_what_may_start_while_redis_is_gone(
    replica: Replica, store: RedisServer, database: redis.Redis
) -> None:
    async with replica() as one:
        kept = Wire(one)
        (handle,) = await kept.start("gru", "kept")
        await kept.observe(handle, 0, values(3))
        one.close_stream(kept.call)
        token = CheckpointSigner([KEY]).seal(
            one.repository.get("gru"), "token", "", 7, [bytes(2 * 16 * 4)]
        )
        await flush(one)
        store.kill()
        wire = Wire(one)
        (error,) = await wire.start_refused("gru", "new")
        assert error.code == Code.UNAVAILABLE
        assert "may hold its state: try again, or start it with a checkpoint or" in error.message
        await wire.start("gru", "reset", reset=True)
        await wire.start("gru", "token", checkpoint=token)
        (response,) = await wire.start_responses("gru", "kept")
        assert response.started.series[0].next_offset == 3
        store.start()
        await flush(one)
        offsets = {key: stored_offset(one, database, key) for key in ("reset", "token", "kept")}
        assert offsets == {"reset": 0, "token": 7, "kept": 3}
        assert wire.notices == []


@needs_redis
async def test_of_two_that_started_a_series_without_redis_one_is_left(
    replica: Replica, store: RedisServer
) -> None:
    async with replica() as one, replica() as two:
        store.kill()
        wires = [Wire(one), Wire(two)]
        for rows, wire in enumerate(wires, start=2):
            (handle,) = await wire.start("gru", "a", reset=True)
            await wire.observe(handle, 0, values(rows))
        store.start()
        await flush(one)
        await flush(two)
        # Whoever claimed first learns of it with its next write.
        for service, wire, rows in ((one, wires[0], 2), (two, wires[1], 3)):
            await wire.observe(0, rows, values(1))
            await flush(service)
        assert sorted(len(wire.notices) for wire in wires) == [0, 1]


@needs_redis
async def test_a_store_that_hangs_delays_a_start_for_its_timeout_only(
    replica: Replica, store: RedisServer
) -> None:
    async with replica(state_timeout_seconds=0.05) as one:
        live = Wire(one)
        (handle,) = await live.start("gru", "a")
        await flush(one)
        store.pause()
        (error,) = await Wire(one).start_refused("gru", "new")
        assert error.code == Code.UNAVAILABLE
        (answer,) = await live.observe(handle, 0, values(1))
        assert answer.forecasts.offsets == [0]
        store.go_on()
        await flush(one)


@needs_redis
async def test_only_the_latest_of_each_series_waits_and_no_more_than_the_limit(
    replica: Replica, store: RedisServer, database: redis.Redis
) -> None:
    async with replica(max_series=2) as one:
        await Wire(one).start("gru", "first")
        await flush(one)
        store.kill()
        wire = Wire(one)
        for key in "abcde":
            (handle,) = await wire.start("gru", key, reset=True)
            for offset in range(3):
                await wire.observe(handle, offset, values(1))
            await wire.finish(handle)
        for key in "abcde":
            await wire.start("gru", key, reset=True)
            await wire.observe(handle, 0, values(4))
            one.close_stream(wire.call)
            wire = Wire(one)
        assert one.store_status is not None
        assert one.store_status.forgotten > 0
        written = one.store_status.written
        store.start()
        await flush(one)
        # Two that wait without a row, and the two rows.
        assert one.store_status.written == written + 4
        assert stored_offset(one, database, "e") == 4


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


@needs_redis
def test_health_names_the_store_apart(models: Path, key_file: Path, store: RedisServer) -> None:
    options = ["--checkpoint-key-file", str(key_file), "--state-store", store.url]
    with (
        ServerProcess(models, *options, "--state-timeout-seconds", "0.2") as server,
        RawStream(server.target) as stream,
        grpc.insecure_channel(server.target) as channel,
    ):
        (handle,) = stream.start("gru", "a")
        health: Any = health_pb2_grpc.HealthStub(channel)
        name = health_pb2.HealthCheckRequest(service="tidegate.state_store")
        watch = health.Watch(name)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        store.kill()
        stream.observe(handle, 0, values(1))
        assert stream.receive().forecasts.offsets == [0]
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        overall = health.Check(health_pb2.HealthCheckRequest())
        assert overall.status == health_pb2.HealthCheckResponse.SERVING
        store.start()
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()


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


def is_behind(service: Service) -> bool:
    assert service.store_status is not None
    return service.store_status.behind_since is not None


def stored_offset(service: Service, database: redis.Redis, key: str) -> int:
    value = database.hget(f"tidegate/gru/1/{key}", "v")
    assert isinstance(value, bytes)
    model = service.repository.get("gru")
    return service.signer.open(value, model, key, "").next_offset
