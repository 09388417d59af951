"""Models that come, go and change while the server runs."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import onnx
import pytest

from support import onnx_models
from support.metrics import Scraper, free_port
from support.server import running_server
from support.streams import RawStream
from tidegate.client import Client, NotFoundError
from tidegate.serve.errors import LoadError
from tidegate.serve.repository import Repository
from tidegate.serve.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROWS = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
SWAPS = 50


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository with version 1 of the model `m`."""
    publish(tmp_path, "1")
    return tmp_path


def publish(folder: Path, version: str, *, checksum: str | None = None, **model: Any) -> None:
    """Adds a version in one piece, as a publisher should."""
    onnx_model = onnx_models.forecaster("gru", seed=int(version), hidden=8, layers=1, **model)
    content = onnx_model.SerializeToString()
    path = folder / "m" / version / "model.onnx"
    path.parent.mkdir(parents=True)
    digest = checksum or hashlib.sha256(content).hexdigest()
    path.with_name("model.onnx.sha256").write_text(f"{digest}  model.onnx\n")
    path.with_suffix(".tmp").write_bytes(content)
    path.with_suffix(".tmp").replace(path)


def remove(folder: Path, version: str) -> None:
    (folder / "m" / version / "model.onnx").unlink()


def move_alias(folder: Path, version: str) -> None:
    path = folder / "m" / "aliases.json"
    path.with_suffix(".tmp").write_text(json.dumps({"champion": version}))
    path.with_suffix(".tmp").replace(path)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"


def versions(client: Client) -> list[str]:
    return [model.version for model in client.list_models()]


def poll(repository: Repository) -> bool:
    return repository.apply(repository.prepare())


def repository(folder: Path, **limits: Any) -> Repository:
    return Repository(Settings(models=folder, provider="cpu", **limits))


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


def test_a_version_that_fails_keeps_the_old_one_is_counted_and_logged_once(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = repository(folder)
    before = served.list()
    publish(folder, "2", checksum="0" * 64)
    publish(folder, "3", looks_ahead=True)
    for _ in range(2):
        assert not poll(served)
    assert served.list() == before
    assert served.failures == {"m": 4}
    records = [record for record in caplog.records if record.levelno == logging.ERROR]
    damaged, looking_ahead = (record.getMessage() for record in records)
    assert "its publisher gave 000000" in damaged
    assert "it looks ahead" in looking_ahead


def test_a_failed_version_shows_in_the_metrics(folder: Path) -> None:
    port = free_port()
    with running_server(folder, poll_seconds=0.02, metrics_port=port) as target:
        publish(folder, "2", checksum="0" * 64)
        wait_until(lambda: Scraper(port).value("model_load_failures_total", model="m") > 0)
        with Client(target) as client:
            assert versions(client) == ["1"]


def test_a_version_that_was_not_written_to_its_end_is_taken_when_it_is(folder: Path) -> None:
    served = repository(folder)
    publish(folder, "2")
    path = folder / "m" / "2" / "model.onnx"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert not poll(served)
    path.write_bytes(whole)
    assert poll(served)
    assert served.get("m").version == "2"


def test_a_file_that_is_wrong_is_not_loaded_again_unchanged(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = repository(folder)
    publish(folder, "2", looks_ahead=True)
    assert not poll(served)

    def fail(*_: object) -> None:
        pytest.fail("the same file was loaded again")

    monkeypatch.setattr("tidegate.serve.repository.load_model", fail)
    assert not poll(served)
    assert served.failures == {"m": 2}
    monkeypatch.undo()
    path = folder / "m" / "2" / "model.onnx"
    good = onnx_models.forecaster("gru", seed=2, hidden=8, layers=1).SerializeToString()
    path.with_name("model.onnx.sha256").write_text(hashlib.sha256(good).hexdigest())
    path.write_bytes(good)
    assert poll(served)


def test_an_alias_whose_new_version_fails_stays_where_it_was(folder: Path) -> None:
    move_alias(folder, "1")
    served = repository(folder)
    publish(folder, "2", checksum="0" * 64)
    move_alias(folder, "2")
    remove(folder, "1")
    assert not poll(served)
    assert served.get("m", alias="champion").version == "1"


def test_a_source_that_cannot_be_read_changes_nothing(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = repository(folder)
    aliases = folder / "m" / "aliases.json"
    for content in ("{", '{"champion": "7"}'):
        aliases.write_text(content)
        assert not poll(served)
    aliases.unlink()
    (folder / "m").rename(folder.parent / "elsewhere")
    assert not poll(served)
    assert served.get("m").version == "1"
    assert served.failures == {"": 3}
    assert "is not readable JSON" in caplog.text
    assert "alias 'champion' names version '7'" in caplog.text
    assert "holds no <name>/<version>/model.onnx" in caplog.text


def test_a_version_over_the_memory_limit_is_refused_until_there_is_room(folder: Path) -> None:
    size = (folder / "m" / "1" / "model.onnx").stat().st_size
    served = repository(folder, max_model_bytes=2 * size + 100)
    publish(folder, "2")
    publish(folder, "3")
    assert poll(served)
    assert [model.version for model in served.list()] == ["1", "2"]
    assert served.failures == {"m": 1}
    remove(folder, "1")
    assert poll(served)
    # What leaves frees its room only once it has left.
    assert poll(served)
    assert [model.version for model in served.list()] == ["2", "3"]
    with pytest.raises(LoadError, match=r"over the limit of 100 \(--max-model-bytes\)"):
        repository(folder, max_model_bytes=100)


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
