"""Many series, many clients that die: what they cost, and that it comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from support import onnx_models
from support.server import ServerProcess
from support.streams import RawStream
from tidegate.client import Client, Retry
from tidegate.v1 import inference_pb2 as pb

TESTS = Path(__file__).parents[1]
HIDDEN, LAYERS = 128, 2
STATE_BYTES = 4 * HIDDEN * LAYERS

# Opens many streams, sends an observation on each and more without reading, and is killed.
DYING_CLIENTS = """
import sys, threading
import grpc
from tidegate.v1 import inference_pb2 as pb
from tidegate.v1 import inference_pb2_grpc as pb_grpc
target, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
stub = pb_grpc.InferenceServiceStub(grpc.insecure_channel(target))
queues, calls = [], []
import queue
for number in range(first, first + count):
    requests = queue.SimpleQueue()
    call = stub.StreamForecast(iter(requests.get, None))
    start = pb.Start(model=pb.ModelReference(name="gru"), series=[pb.SeriesStart(key=f"{number}")])
    requests.put(pb.StreamForecastRequest(start=start))
    handle = next(call).started.series[0].handle
    for offset in range(3):
        message = pb.Observations(handles=[handle], offsets=[offset], values=bytes(12))
        requests.put(pb.StreamForecastRequest(observations=message))
    queues.append(requests)
    calls.append(call)
print("sent", flush=True)
threading.Event().wait()
"""


def resident(server: ServerProcess) -> int:
    return int(psutil.Process(server.process.pid).memory_info().rss)


def start_and_step(stream: RawStream, keys: list[str], features: int) -> None:
    """Starts series and sends one observation of each, a thousand in a message."""
    for start in range(0, len(keys), 1000):
        part = keys[start : start + 1000]
        handles = stream.start("gru", *part)
        values = np.random.default_rng(start).normal(size=(len(part), features)).astype("<f4")
        stream.send(
            observations=pb.Observations(
                handles=handles, offsets=[0] * len(part), values=values.tobytes()
            )
        )
        assert len(stream.receive().forecasts.handles) == len(part)


@pytest.mark.slow
def test_an_idle_series_costs_its_state_and_less_than_a_kilobyte(tmp_path: Path) -> None:
    model = onnx_models.forecaster("gru", hidden=HIDDEN, layers=LAYERS, horizon=1)
    onnx_models.save(model, tmp_path, "gru")
    count = 100_000
    with ServerProcess(tmp_path, "--max-series-per-stream", f"{count}") as server:
        with RawStream(server.target) as first, RawStream(server.target) as second:
            start_and_step(first, [f"warm-up-{number:06}" for number in range(2_000)], 3)
            before = resident(server)
            start_and_step(second, [f"sensor-{number:06}" for number in range(count)], 3)
            each = (resident(server) - before) / count
            print(f"\n{count} idle series: {each:.0f} bytes each, of which {STATE_BYTES} are state")
            # They are all still there.
            second.observe(second.started[-1].handle, 1, np.ones((1, 3), np.float32))
            assert list(second.receive().forecasts.offsets) == [1]
        server.end()
    assert each <= STATE_BYTES + 1024


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_10_000_clients_that_die_leave_nothing_behind(tmp_path: Path) -> None:
    """500 streams each time, of a process that is killed in mid-stream; slots for 1,200 series."""
    onnx_models.save(onnx_models.forecaster("gru"), tmp_path, "gru")
    rounds, count = 20, 500
    limits = ["--max-streams", "1100", "--max-series", "1200", "--idle-seconds", "1"]
    rows = np.random.default_rng(0).normal(size=(rounds + 1, 3)).astype(np.float32)
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    with (
        ServerProcess(tmp_path, *limits) as server,
        Client(server.target, retry=Retry(seconds=0)) as client,
        client.stream("gru", ["alive"]) as alive,
    ):
        memory = []
        for number in range(rounds):
            first = number * count
            command = [sys.executable, "-c", DYING_CLIENTS, server.target, f"{first}", f"{count}"]
            with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as dying:
                assert dying.stdout is not None
                assert dying.stdout.readline() == b"sent\n"
                dying.send_signal(signal.SIGKILL)
            alive.step("alive", rows[number])
            memory.append(resident(server))
        last = alive.step("alive", rows[-1])
        np.testing.assert_array_equal(last, client.forecast("gru", [rows])[0])
        grown = memory[-1] - memory[rounds // 2]
        print(f"\n{rounds * count} clients died; second half: {grown / 2**20:+.1f} MiB")
        # All slots can be had again.
        alive.start([f"new-{number}" for number in range(1_199)])
        alive.close()
        assert '"level": "error"' not in server.end()
    assert grown < 8 * 2**20
