"""While Redis is gone streams go on, and what it missed is written when it is back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import redis
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.redis_server import RedisServer, needs_redis
from support.replicas import (
    KEY,
    Replica,
    available,
    flush,
    is_behind,
    started_offset,
    stored_offset,
    values,
)
from support.server import ServerProcess
from support.streams import RawStream, Wire
from tidegate.serve.checkpoint import CheckpointSigner
from tidegate.serve.errors import Code
from tidegate.serve.metrics import ServiceCollector
from tidegate.serve.service import Service

if TYPE_CHECKING:
    from pathlib import Path


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
def test_health_names_the_store_apart(models: Path, key_file: Path, store: RedisServer) -> None:
    options = ["--checkpoint-key-file", str(key_file), "--state-store", store.url]
    with (
        ServerProcess(models, *options, "--state-timeout-seconds", "2") as server,
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
