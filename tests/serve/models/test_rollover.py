"""What becomes of live streams when their version is replaced or removed."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import numpy as np
import onnx
import pytest

from support import onnx_models
from support.metrics import Scraper, free_port
from support.publishing import move_alias, publish, remove, versions
from support.server import running_server
from support.streams import RawStream
from support.waiting import wait_until
from tidegate.client import Client, NotFoundError

if TYPE_CHECKING:
    from pathlib import Path

ROWS = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
SWAPS = 50


def test_new_streams_take_a_new_version_and_live_ones_finish_on_the_old(folder: Path) -> None:
    with running_server(folder, poll_seconds=0.02) as target, Client(target) as client:
        old_forecast = client.forecast("m", [ROWS])[0]
        with client.stream("m", ["old"]) as old:
            old.send("old", ROWS[:4])
            publish(folder, "2")
            wait_until(lambda: versions(client) == ["1", "2"])
            with client.stream("m", ["new"]) as new:
                assert (old.model, new.model) == ("m/1", "m/2")
                new_last = new.send("new", ROWS)[-1]
            old_last = old.send("old", ROWS[4:])[-1]
        np.testing.assert_array_equal(old_last, old_forecast)
        np.testing.assert_array_equal(new_last, client.forecast("m/2", [ROWS])[0])
        assert not np.array_equal(old_last, new_last)


def test_a_stream_that_stays_is_asked_to_restart_and_then_ended(folder: Path) -> None:
    limits = {"poll_seconds": 0.02, "drain_old": 0.05, "drain_seconds": 0.05}
    with running_server(folder, **limits) as target, RawStream(target) as stream:
        stream.start("m", "a")
        publish(folder, "2")
        notice = stream.receive().superseded
        assert (notice.model, notice.version) == ("m", "2")
        assert notice.seconds == pytest.approx(0.05)
        status, text = stream.failure()
    assert status == grpc.StatusCode.ABORTED
    assert text == (
        "model 'm' version 1 was replaced by version 2: open the stream again and start its "
        "series anew"
    )


def test_a_stream_that_leaves_in_time_hears_nothing_more(folder: Path) -> None:
    limits = {"poll_seconds": 0.02, "drain_old": 0.05, "drain_seconds": 30.0}
    with running_server(folder, **limits) as target:
        with RawStream(target) as stream:
            stream.start("m", "a")
            publish(folder, "2")
            assert stream.receive().HasField("superseded")
            assert stream.end() == (grpc.StatusCode.OK, "")
        with Client(target) as client, client.stream("m", ["a"]) as again:
            assert again.model == "m/2"


def test_a_stream_that_named_its_version_stays_until_that_version_is_gone(folder: Path) -> None:
    publish(folder, "2")
    limits = {"poll_seconds": 0.02, "drain_old": 0, "drain_seconds": 0}
    with (
        running_server(folder, **limits) as target,
        Client(target) as client,
        client.stream("m/2", ["a"]) as pinned,
    ):
        publish(folder, "3")
        wait_until(lambda: versions(client) == ["1", "2", "3"])
        pinned.step("a", ROWS[0])
        with RawStream(target) as stream:
            stream.ask(start={"model": {"name": "m", "version": "1"}, "series": [{"key": "b"}]})
            remove(folder, "1")
            notice = stream.receive().superseded
            assert (notice.model, notice.version) == ("m", "")
            status, text = stream.failure()
        assert status == grpc.StatusCode.ABORTED
        assert "version 1 was replaced and has no successor" in text
        with pytest.raises(NotFoundError, match=r"no version '1'; it has \['2', '3'\]"):
            client.get_model("m/1")
        pinned.step("a", ROWS[1])


def test_a_moved_alias_is_followed(folder: Path) -> None:
    publish(folder, "2")
    move_alias(folder, "1")
    limits = {"poll_seconds": 0.02, "drain_old": 0, "drain_seconds": 0}
    with running_server(folder, **limits) as target, Client(target) as client:
        with RawStream(target) as stream:
            stream.ask(start={"model": {"name": "m", "alias": "champion"}})
            move_alias(folder, "2")
            assert stream.receive().superseded.version == "2"
            assert stream.failure()[0] == grpc.StatusCode.ABORTED
        with client.stream("m@champion", ["a"]) as again:
            assert again.model == "m/2"
        assert [model.aliases for model in client.list_models()] == [(), ("champion",)]


def test_a_stream_whose_version_comes_back_in_time_is_not_ended(folder: Path) -> None:
    publish(folder, "2")
    move_alias(folder, "1")
    limits = {"poll_seconds": 0.02, "drain_old": 0, "drain_seconds": 0.3}
    with running_server(folder, **limits) as target, RawStream(target) as stream:
        model = {"name": "m", "alias": "champion"}
        started = stream.ask(start={"model": model, "series": [{"key": "a"}]}).started
        move_alias(folder, "2")
        assert stream.receive().superseded.version == "2"
        move_alias(folder, "1")
        end, offset = time.monotonic() + 0.6, 0
        while time.monotonic() < end:
            stream.observe(started.series[0].handle, offset, ROWS[:1])
            assert stream.receive().forecasts.offsets == [offset]
            offset += 1
        assert stream.end() == (grpc.StatusCode.OK, "")


def test_a_removed_version_counts_for_the_memory_limit_until_its_last_stream_ends(
    folder: Path,
) -> None:
    size = (folder / "m" / "1" / "model.onnx").stat().st_size
    metrics = Scraper(port := free_port())
    limits = {"poll_seconds": 0.02, "max_model_bytes": 2 * size + 100, "metrics_port": port}
    with running_server(folder, **limits) as target, Client(target) as client:
        with client.stream("m", ["a"]) as stream:
            publish(folder, "2")
            wait_until(lambda: versions(client) == ["1", "2"])
            remove(folder, "1")
            wait_until(lambda: versions(client) == ["2"])
            publish(folder, "3")
            wait_until(lambda: metrics.value("model_load_failures_total", model="m") > 0)
            stream.step("a", ROWS[0])
            assert versions(client) == ["2"]
        wait_until(lambda: versions(client) == ["2", "3"])


def test_what_a_removed_model_kept_is_freed_with_its_last_stream(folder: Path) -> None:
    onnx.save(onnx_models.forecaster("lstm"), _other(folder))
    with running_server(folder, poll_seconds=0.02) as target, Client(target) as client:
        with client.stream("other", ["a"]) as stream:
            _other(folder).unlink()
            wait_until(lambda: versions(client) == ["1"])
            stream.step("a", ROWS[0])
        with pytest.raises(NotFoundError, match=r"no model 'other'; this server has \['m'\]"):
            client.stream("other", ["a"])


def _other(folder: Path) -> Path:
    path = folder / "other" / "1" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@pytest.mark.slow
def test_fifty_swaps_under_load_fail_no_request(folder: Path) -> None:
    """Streams go on until they restart; windows and sentences of streams know no pause."""
    move_alias(folder, "1")
    stop = threading.Event()
    seen: list[list[str]] = [[], [], []]
    limits = {"poll_seconds": 0.02, "drain_old": 0, "drain_seconds": 30}
    with (
        running_server(folder, **limits) as target,
        ThreadPoolExecutor(4) as pool,
    ):
        windows = pool.submit(ask_for_windows, target, stop)
        streams = [pool.submit(keep_a_stream, target, one, stop) for one in seen[:2]]
        streams.append(pool.submit(keep_a_clients_stream, target, seen[2], stop))
        try:
            for number in range(2, SWAPS + 2):
                version = str(number)
                publish(folder, version)
                move_alias(folder, version)
                wait_until(lambda: all(one[-1:] == [version] for one in seen))  # noqa: B023 - used at once
                remove(folder, str(number - 1))
        finally:
            stop.set()
        assert windows.result() >= SWAPS
        for stream in streams:
            stream.result()
    assert seen == [[str(number) for number in range(1, SWAPS + 2)]] * 3


def ask_for_windows(target: str, stop: threading.Event) -> int:
    """Asks again and again; returns how often."""
    count = 0
    with Client(target) as client:
        while not stop.is_set():
            assert np.isfinite(client.forecast("m@champion", [ROWS])).all()
            count += 1
    return count


def keep_a_clients_stream(target: str, seen: list[str], stop: threading.Event) -> None:
    """The same with the client, which restarts by itself."""
    with Client(target) as client, client.stream("m@champion", ["client"]) as stream:
        for offset, row in enumerate(itertools.cycle(ROWS)):
            if stop.is_set():
                break
            version = stream.model.partition("/")[2]
            if version not in seen:
                seen.append(version)
            assert stream.next_offset("client") == offset
            assert np.isfinite(stream.step("client", row)).all()


def keep_a_stream(target: str, seen: list[str], stop: threading.Event) -> None:
    """Streams, restarts whenever it is asked to, and adds the versions it runs on to `seen`."""
    while not stop.is_set():
        with RawStream(target) as stream:
            model = {"name": "m", "alias": "champion"}
            key = f"series {id(seen)}"
            started = stream.ask(start={"model": model, "series": [{"key": key}]}).started
            seen.append(started.version)
            for offset, row in enumerate(itertools.cycle(ROWS)):
                stream.observe(started.series[0].handle, offset, row[None])
                answer = stream.receive()
                if answer.HasField("superseded") or stop.is_set():
                    break
                assert answer.forecasts.offsets == [offset]
            assert stream.end() == (grpc.StatusCode.OK, "")
