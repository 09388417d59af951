"""Limits of connections, streams and requests: each with its own error, and at once."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from support.metrics import Scraper, free_port
from support.server import running_server
from support.streams import RawStream
from support.waiting import wait_until
from tidegate.client import Client, ResourceExhaustedError
from tidegate.serve.connections import channel_options
from tidegate.serve.errors import ResourceExhaustedError as ServerResourceExhaustedError
from tidegate.serve.forecast import Window
from tidegate.serve.service import Service
from tidegate.serve.settings import Settings
from tidegate.v1 import inference_pb2 as pb
from tidegate.v1 import inference_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from pathlib import Path

ROW = np.zeros((1, 3), np.float32)
START = pb.StreamForecastRequest(start=pb.Start(model=pb.ModelReference(name="gru")))


def test_one_stream_too_many_is_refused_within_100_ms(models: Path) -> None:
    with running_server(models, max_streams=3) as target, Client(target) as client:
        streams = [client.stream("gru", [f"{i}"]) for i in range(3)]
        took = []
        for _ in range(5):
            begin = time.perf_counter()
            with pytest.raises(ResourceExhaustedError, match="--max-streams") as raised:
                client.stream("gru", ["one more"])
            took.append(time.perf_counter() - begin)
            assert raised.value.retry_seconds == 1
        # The best of five: the machine may be busy with something else.
        assert min(took) < 0.1
        streams[0].close()
        wait_until(lambda: starts(client))
        for stream in streams[1:]:
            stream.close()


def starts(client: Client) -> bool:
    try:
        client.stream("gru", ["one more"]).close()
    except ResourceExhaustedError:
        return False
    return True


def test_streams_of_one_connection_are_limited_and_others_are_free(models: Path) -> None:
    with (
        running_server(models, max_streams_per_connection=2) as target,
        own_connection(target) as channel,
    ):
        stub: Any = pb_grpc.InferenceServiceStub(channel)
        hold = threading.Event()

        def requests() -> Any:
            yield START
            hold.wait(20)

        calls = [stub.StreamForecast(requests()) for _ in range(2)]
        for call in calls:
            next(call)
        with pytest.raises(grpc.RpcError, match=r"all 2 streams of this connection are taken"):
            next(stub.StreamForecast(iter([START])))
        with RawStream(target) as other:
            other.start("gru", "b")
        hold.set()
        for call in calls:
            assert call.code() == grpc.StatusCode.OK
        assert list(stub.StreamForecast(iter([START])))


def test_series_of_one_connection_are_limited_over_all_its_streams(models: Path) -> None:
    with (
        running_server(models, max_series_per_connection=3) as target,
        Client(target) as client,
        client.stream("gru", ["a", "b"]) as first,
        client.stream("lstm", ["c"]) as second,
    ):
        text = r"streams of this connection have 3 series already \(--max-series-per-connection\)"
        for stream in (first, second):
            with pytest.raises(ResourceExhaustedError, match=text):
                stream.start(["d"])
        # What is live already may be started again.
        first.start(["a"], take_over=True)
        with own_connection(target) as channel:
            stub: Any = pb_grpc.InferenceServiceStub(channel)
            start = pb.StreamForecastRequest(
                start=pb.Start(
                    model=pb.ModelReference(name="gru"), series=[pb.SeriesStart(key="other")]
                )
            )
            (answer,) = stub.StreamForecast(iter([start]))
            assert answer.started.series[0].key == "other"
        first.finish("a")
        second.start(["d"])


def test_one_connection_too_many_is_closed_at_once(models: Path) -> None:
    with running_server(models, max_connections=2) as target:
        with own_connection(target) as first, own_connection(target) as second:
            assert answers(first)
            assert answers(second)
            with own_connection(target) as third:
                assert not answers(third)
            assert answers(first)
        with own_connection(target) as third:
            wait_until(lambda: answers(third))


def own_connection(target: str) -> grpc.Channel:
    """A channel that shares its connection with no other; gRPC's own do."""
    return grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])


def answers(channel: grpc.Channel) -> bool:
    try:
        pb_grpc.InferenceServiceStub(channel).ListModels(pb.ListModelsRequest(), timeout=10)
    except grpc.RpcError:
        return False
    return True


def test_a_reader_that_is_too_slow_is_ended_and_its_series_freed(models: Path) -> None:
    port = free_port()
    chunk = np.zeros((400, 3), np.float32)
    with (
        running_server(models, metrics_port=port, slow_reader_seconds=0.2) as target,
        RawStream(target) as stream,
    ):
        (handle,) = stream.start("gru", "a", every_step=True)
        # 100 MB of answers are more than any buffer on the way.
        for number in range(5_000):
            stream.observe(handle, number * len(chunk), chunk)
        wait_until(lambda: Scraper(port).value("streams") == 0)
        status, text = stream.failure()
        assert status == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "has not read an answer for 0.2 s (--slow-reader-seconds)" in text
        with Client(target) as client, client.stream("gru", ["b"]) as other:
            other.step("b", ROW[0])


def test_a_reader_that_reads_now_and_then_is_not_ended(models: Path) -> None:
    with (
        running_server(models, slow_reader_seconds=0.05) as target,
        Client(target) as client,
        client.stream("gru", ["a"]) as stream,
    ):
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            stream.step("a", ROW[0])
        # Nothing is under way, so nothing waits for its reader.
        assert not stream._requests.qsize()
        threading.Event().wait(0.3)
        stream.step("a", ROW[0])


async def test_one_request_too_many_is_refused_with_a_delay(models: Path) -> None:
    service = Service(Settings(models=models, provider="cpu", max_requests=2))
    held: Future[None] = Future()
    service._executor.submit(held.result)
    model = service.repository.get("gru")
    window = Window(1, ROW.tobytes())
    waiting = [asyncio.create_task(service.forecast(model, [window])) for _ in range(2)]
    await asyncio.sleep(0)
    for request in (
        service.forecast(model, [window]),
        service.annotate(service.repository.get("labeller"), [["a"]]),
    ):
        with pytest.raises(
            ServerResourceExhaustedError, match=r"2 requests are under way"
        ) as raised:
            await request
        assert raised.value.retry_seconds == 1
    held.set_result(None)
    await asyncio.gather(*waiting)
    await service.forecast(model, [window])
    service.close()


def test_the_tokens_of_a_request_are_limited(models: Path) -> None:
    with running_server(models, max_request_tokens=5) as target, Client(target) as client:
        assert len(client.annotate("labeller", [["a", "cat"], ["the", "dog", "barks"]])) == 2
        with pytest.raises(ResourceExhaustedError, match=r"6 tokens are over .*--max-request-tok"):
            client.annotate("labeller", [["a", "cat"]] * 3)


def test_connections_get_the_age_and_the_keepalive_of_the_settings() -> None:
    options = dict(channel_options(Settings(keepalive_seconds=9)))
    assert options["grpc.keepalive_time_ms"] == 9_000
    assert options["grpc.keepalive_timeout_ms"] == 3_000
    assert "grpc.max_connection_age_ms" not in options
    aged = Settings(max_connection_age=60, max_connection_age_grace=5)
    options = dict(channel_options(aged))
    assert options["grpc.max_connection_age_ms"] == 60_000
    assert options["grpc.max_connection_age_grace_ms"] == 5_000


def test_an_old_connection_is_left_for_a_new_one_without_a_failed_call(models: Path) -> None:
    with running_server(models, max_connection_age=0.05) as target, Client(target) as client:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            client.list_models()


def test_a_stream_on_an_old_connection_ends_after_the_grace(models: Path) -> None:
    ages = {"max_connection_age": 0.05, "max_connection_age_grace": 0.1}
    with running_server(models, **ages) as target, RawStream(target) as stream:
        stream.start("gru", "a")
        assert stream.failure()[0] == grpc.StatusCode.UNAVAILABLE


@pytest.mark.slow
def test_a_client_may_ask_whether_the_server_is_there_while_its_stream_pauses(
    models: Path,
) -> None:
    """By gRPC's own limits the third ping on a quiet connection would end it."""
    options = [("grpc.keepalive_time_ms", 100), ("grpc.http2.max_pings_without_data", 0)]
    with (
        running_server(models, keepalive_seconds=0.15) as target,
        grpc.insecure_channel(target, options=options) as channel,
    ):
        stub: Any = pb_grpc.InferenceServiceStub(channel)
        pause = threading.Event()

        def requests() -> Any:
            yield START
            pause.wait(2)
            yield START

        call = stub.StreamForecast(requests())
        assert [answer.started.model for answer in call] == ["gru", "gru"]
