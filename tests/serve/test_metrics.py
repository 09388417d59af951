"""What is measured and logged of the calls, and that it holds no payload."""

from __future__ import annotations

import json
import logging
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import torch

from support.metrics import Scraper, free_port
from support.server import ServerProcess, running_server
from support.streams import RawStream
from tidegate.client import Client, NotFoundError
from tidegate.serve import gpu
from tidegate.serve.stats import Histogram
from tidegate.v1 import inference_pb2 as pb
from tidegate.v1 import inference_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def measured(models: Path) -> Iterator[tuple[str, Scraper]]:
    """A server of its own, and what reads its metrics."""
    port = free_port()
    with running_server(models, metrics_port=port) as target:
        yield target, Scraper(port)


def test_a_stream_is_counted_by_model_and_version(measured: tuple[str, Scraper]) -> None:
    target, scraper = measured
    gru = {"model": "gru", "version": "1"}
    with Client(target) as client, client.stream("gru", ["a", "b"]) as stream:
        rows = np.zeros((5, 3), np.float32)
        stream.send_many({"a": rows, "b": rows[:1]})
        assert scraper.value("streams") == 1
        assert scraper.value("steps_total", **gru) == 6
        assert scraper.value("series", **gru) == 2
        assert scraper.value("state_bytes", **gru) == 64 * 2 * 16 * 4
        # Chunks of one and of five rows share no run: half of it would be padding.
        assert scraper.value("batch_rows_count", **gru) == 2
        assert scraper.value("batch_rows_sum", **gru) == 6
        assert scraper.value("batch_rows_bucket", le="1.0", **gru) == 1
        assert scraper.value("queue_seconds_count", **gru) == 1
        assert scraper.value("run_seconds_count", **gru) == 2
        assert 0 < scraper.value("run_seconds_sum", **gru) < 10
    assert scraper.value("streams") == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_there_is_no_metric_of_one(measured: tuple[str, Scraper]) -> None:
    _, scraper = measured
    assert not [name for name, _ in scraper.read() if "gpu" in name]


def test_without_the_library_there_is_no_metric_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    gpu._nvml.cache_clear()
    assert list(gpu.gpu_memory()) == []
    gpu._nvml.cache_clear()


@pytest.mark.gpu
def test_the_memory_of_a_gpu_is_measured(measured: tuple[str, Scraper]) -> None:
    _, scraper = measured
    used = scraper.value("gpu_memory_used_bytes", gpu="0")
    assert 0 < used <= scraper.value("gpu_memory_bytes", gpu="0")


def test_calls_and_their_errors_are_counted_by_status_and_model(
    measured: tuple[str, Scraper],
) -> None:
    target, scraper = measured
    with Client(target) as client:
        client.list_models()
        with pytest.raises(NotFoundError):
            client.get_model("nope")
        with pytest.raises(NotFoundError):
            client.get_model("gru/7")
    with RawStream(target) as stream:
        (handle,) = stream.start("gru", "a")
        stream.observe(handle, 4, np.zeros((1, 3), np.float32))
        stream.receive()
        stream.send(finish=pb.Finish())
        stream.receive()
        stream.send()
        assert stream.failure()[0] == grpc.StatusCode.INVALID_ARGUMENT
    assert scraper.value("calls_total", method="ListModels", code="OK") == 1
    assert scraper.value("calls_total", method="GetModel", code="NOT_FOUND") == 2
    assert scraper.value("calls_total", method="StreamForecast", code="INVALID_ARGUMENT") == 1
    assert scraper.value("errors_total", code="NOT_FOUND", model="") == 2
    assert scraper.value("errors_total", code="OUT_OF_RANGE", model="gru") == 1
    assert scraper.value("errors_total", code="INVALID_ARGUMENT", model="gru") == 1


def test_forecasts_and_labels_are_counted_too(measured: tuple[str, Scraper]) -> None:
    target, scraper = measured
    with Client(target) as client:
        client.forecast("gru", [np.zeros((4, 3))])
        client.annotate("labeller", [["the", "dog"], ["a", "cat", "barks"]])
    assert scraper.value("steps_total", model="gru", version="1") == 4
    assert scraper.value("steps_total", model="labeller", version="1") == 5


def test_bytes_are_those_of_the_messages(measured: tuple[str, Scraper]) -> None:
    target, scraper = measured
    request = pb.GetModelRequest(model=pb.ModelReference(name="gru"))
    with grpc.insecure_channel(target) as channel:
        response = pb_grpc.InferenceServiceStub(channel).GetModel(request)
    assert scraper.value("received_bytes_total") == request.ByteSize()
    assert scraper.value("sent_bytes_total") == response.ByteSize()


def test_every_loaded_version_and_the_process_are_described(
    measured: tuple[str, Scraper],
) -> None:
    _, scraper = measured
    scraped = scraper.read()
    labels = [dict(key) for name, key in scraped if name == "tidegate_model_info"]
    (champion,) = [one for one in labels if one["model"] == "versions" and one["version"] == "2"]
    assert champion["aliases"] == "champion"
    assert champion["provider"] == "CPUExecutionProvider"
    assert len(champion["sha256"]) == 64
    assert scraper.value("draining") == 0
    # Of the process, where the system tells.
    assert scraped.get(("process_resident_memory_bytes", frozenset()), 2**20) >= 2**20


def test_a_taken_port_for_metrics_is_named(models: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(OSError, match=f"cannot serve metrics on 127.0.0.1:{port}"),
            running_server(models, metrics_port=port),
        ):
            pass


def test_a_histogram_counts_up_to_and_including_its_bounds() -> None:
    histogram = Histogram((1, 10))
    for value in (0.5, 1, 1.5, 10, 11):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.total == 24


def test_the_end_of_a_stream_is_logged_with_the_clients_request_id_and_no_payload(
    models: Path,
) -> None:
    with ServerProcess(models) as server:
        with grpc.insecure_channel(server.target) as channel:
            stub: Any = pb_grpc.InferenceServiceStub(channel)
            start = pb.Start(
                model=pb.ModelReference(name="gru"), series=[pb.SeriesStart(key="secret-key")]
            )
            call = stub.StreamForecast(
                iter([pb.StreamForecastRequest(start=start)]), metadata=(("x-request-id", "abc-1"),)
            )
            list(call)
            assert dict(call.trailing_metadata())["x-request-id"] == "abc-1"
            with pytest.raises(grpc.RpcError) as raised:
                stub.GetModel(pb.GetModelRequest(), metadata=(("x-request-id", "not clean"),))
        server.send(signal.SIGTERM)
        _, log = server.wait()
    records = [json.loads(line) for line in log.splitlines()]
    stream, failed = (record for record in records if record["message"] == "call ended")
    assert stream["request_id"] == "abc-1"
    assert (stream["method"], stream["code"], stream["model"]) == ("StreamForecast", "OK", "gru")
    assert stream["seconds"] > 0
    assert (failed["method"], failed["code"]) == ("GetModel", "NOT_FOUND")
    error: Any = raised.value
    given = dict(error.trailing_metadata())["x-request-id"]
    assert failed["request_id"] == given != "not clean"
    assert "secret-key" not in log


def test_a_call_that_was_well_is_logged_only_for_debugging(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), running_server(models) as target, Client(target) as client:
        client.list_models()
    (record,) = [record for record in caplog.records if record.getMessage() == "call ended"]
    assert record.levelno == logging.DEBUG
