"""Several worker processes on one port, under one supervisor."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import grpc
import numpy as np
import psutil
import pytest

from support.metrics import Scraper, free_port
from support.redis_server import RedisServer, needs_redis
from support.server import ServerProcess
from support.streams import RawStream
from support.waiting import wait_until
from tidegate.client import Client, FailedPreconditionError
from tidegate.serve.__main__ import main as serve_main
from tidegate.serve.grpc_experiments import EXPERIMENTS
from tidegate.serve.workers.port import shared_port
from tidegate.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

WORKERS = 2
GRU = pb.ModelReference(name="gru")
# A worker is a process that starts anew.
until = partial(wait_until, seconds=60)


def values(rows: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)


def let_pass(seconds: float) -> None:
    """Waits for the clock itself, as the one of another process cannot be set."""
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() > end)


class Workers(ServerProcess):
    """A server with workers, and what the system knows of them."""

    def __init__(self, models: Path, *options: str) -> None:
        self.scraper = Scraper(port := free_port())
        super().__init__(models, "--workers", str(WORKERS), "--metrics-port", str(port), *options)

    @property
    def pids(self) -> set[int]:
        return {child.pid for child in psutil.Process(self.process.pid).children()}

    def connections(self, pid: int) -> int:
        port = int(self.target.rpartition(":")[2])
        return sum(
            one.status == psutil.CONN_ESTABLISHED and one.laddr.port == port
            for one in psutil.Process(pid).net_connections("tcp")
        )

    def all_connections(self) -> dict[int, int]:
        return {pid: self.connections(pid) for pid in self.pids}

    def wait_for_connections(self, wanted: dict[int, int]) -> None:
        until(lambda: self.all_connections() == wanted)

    def wait_for_new(self, before: set[int]) -> None:
        """Waits until as many workers are there as wanted, and not the same."""
        until(lambda: len(self.pids) == WORKERS and self.pids != before)

    def on_each(self, stack: ExitStack) -> dict[int, RawStream]:
        """A stream on each worker, by the worker's process."""
        found: dict[int, RawStream] = {}
        for number in range(100):
            before = self.all_connections()
            with ExitStack() as one:
                stream = one.enter_context(RawStream(self.target, own_connection=True))
                stream.start("gru", f"finder-{number}")
                (reached,) = (pid for pid in self.pids if self.connections(pid) > before[pid])
                if reached not in found:
                    found[reached] = stream
                    stack.push(one.pop_all())
                    before[reached] += 1
            self.wait_for_connections(before)
            if len(found) == WORKERS:
                return found
        raise AssertionError("all connections went to one worker")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[list[str]]:
    """Options for states that all workers find."""
    key = tmp_path / "checkpoint.key"
    key.write_bytes(bytes(range(32)))
    with RedisServer(tmp_path) as server:
        yield ["--state-store", server.url, "--checkpoint-key-file", str(key)]


@needs_redis
def test_a_series_keeps_its_rules_across_workers(models: Path, store: list[str]) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(Workers(models, *store))
        first, second = server.on_each(stack).values()
        (handle,) = first.start("gru", "a")
        first.observe(handle, 0, values(1))
        assert first.receive().forecasts.offsets == [0]
        # The answer does not wait for the store.
        until(lambda: server.scraper.value("state_store_behind_seconds") == 0)
        refused = second.ask(start=pb.Start(model=GRU, series=[pb.SeriesStart(key="a")]))
        assert "series 'a' is live on another server" in refused.error.message
        assert not second.receive().started.series
        (taken,) = second.start("gru", "a", reset=False, take_over=True)
        assert second.started[0].next_offset == 1
        second.observe(taken, 1, values(1))
        assert second.receive().forecasts.offsets == [1]
        # The write of this observation is refused by the later claim.
        first.observe(handle, 1, values(1))
        until(lambda: first.receive().error.code == grpc.StatusCode.ABORTED.value[0])


@needs_redis
def test_a_killed_worker_is_replaced_and_its_streams_go_on_bit_for_bit(
    models: Path, store: list[str], client: Client
) -> None:
    rows = values(60)
    with client.stream("gru", ["whole"], every_step=True) as whole:
        expected = whole.send("whole", rows)
    forecasts = []
    with (
        Workers(models, *store) as server,
        Client(server.target) as disturbed,
        disturbed.stream("gru", ["a"], checkpoint_every=7) as stream,
    ):
        for offset, row in enumerate(rows):
            if offset in (20, 40):
                before = server.pids
                for pid in before:
                    if server.connections(pid):
                        psutil.Process(pid).kill()
                server.wait_for_new(before)
            forecasts.append(stream.step("a", row))
        until(lambda: server.scraper.value("worker_restarts_total") == 2)
        until(lambda: server.scraper.value("workers") == WORKERS)
    np.testing.assert_array_equal(forecasts, expected)


def test_a_worker_that_hangs_is_replaced(models: Path) -> None:
    with (
        Workers(models, "--worker-timeout-seconds", "3") as server,
        Client(server.target) as client,
    ):
        before = server.pids
        hanging = psutil.Process(min(before))
        hanging.suspend()
        server.wait_for_new(before)
        until(lambda: server.scraper.value("workers") == WORKERS)
        assert server.scraper.value("worker_restarts_total") == 1
        assert server.pids & before == before - {hanging.pid}
        assert client.forecast("gru", [values(3)]).shape[0] == 1
        assert f'"worker_pid": {hanging.pid}, "seconds": 3.0' in server.end()


def test_a_standstill_of_the_supervisor_costs_no_worker(models: Path) -> None:
    with Workers(models, "--worker-timeout-seconds", "2") as server:
        before, supervisor = server.pids, psutil.Process(server.process.pid)
        for change in (supervisor.suspend, supervisor.resume):
            change()
            # Longer than a worker may be silent.
            let_pass(seconds=3)
        assert server.pids == before
        assert server.scraper.value("worker_restarts_total") == 0


@needs_redis
def test_workers_drain_together_and_exit_with_0(models: Path, store: list[str]) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(Workers(models, *store, "--drain-seconds", "30"))
        streams = server.on_each(stack)
        until(lambda: server.scraper.value("streams") >= WORKERS)
        processes = [psutil.Process(pid) for pid in streams]
        server.send(signal.SIGTERM)
        for stream in streams.values():
            assert stream.receive().WhichOneof("response") == "draining"
            assert stream.end()[0] == grpc.StatusCode.OK
        assert server.wait()[0] == 0
        assert not psutil.wait_procs(processes, timeout=30)[1]


@needs_redis
def test_a_second_sigterm_ends_all_workers_at_once(models: Path, store: list[str]) -> None:
    with (
        Workers(models, *store, "--drain-seconds", "600") as server,
        RawStream(server.target) as stream,
    ):
        stream.start("gru", "a")
        processes = [psutil.Process(pid) for pid in server.pids]
        server.send(signal.SIGTERM)
        assert stream.receive().WhichOneof("response") == "draining"
        server.send(signal.SIGTERM)
        assert server.wait()[0] == -signal.SIGTERM
        assert not psutil.wait_procs(processes, timeout=30)[1]


def test_workers_end_when_their_supervisor_was_killed(models: Path) -> None:
    with Workers(models) as server:
        processes = [psutil.Process(pid) for pid in server.pids]
        assert len(processes) == WORKERS
        server.send(signal.SIGKILL)
        assert not psutil.wait_procs(processes, timeout=30)[1]


def test_workers_run_on_the_experiments_that_the_command_chose(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRPC_EXPERIMENTS", raising=False)
    with Workers(models) as server:
        chosen = [psutil.Process(pid).environ()["GRPC_EXPERIMENTS"] for pid in server.pids]
        assert chosen == WORKERS * [EXPERIMENTS]


def test_streams_are_refused_by_workers_that_share_no_states(models: Path) -> None:
    with Workers(models) as server, Client(server.target) as client:
        with pytest.raises(FailedPreconditionError, match=r"2 workers.*--state-store redis"):
            client.stream("gru", ["a"])
        # What keeps no state needs no store.
        assert client.annotate("labeller", [["the", "gate"]])
        assert client.forecast("gru", [values(3)]).shape[0] == 1


def test_models_that_no_worker_can_load_end_the_server(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ["--models", str(tmp_path / "none"), "--port", "0", "--workers", "2"]
    assert serve_main(options) == 2
    assert "none does not exist: pass --models" in capfd.readouterr().err


def test_a_port_of_another_server_is_not_shared() -> None:
    with (
        shared_port("127.0.0.1", 0) as port,
        pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: is it in use"),
        shared_port("127.0.0.1", port),
    ):
        pass
