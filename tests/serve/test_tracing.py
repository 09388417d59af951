"""Traces reach a real collector over OTLP, and cost nothing where nobody asked for them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1 import (
    trace_service_pb2,
    trace_service_pb2_grpc,
)

from support.server import ServerProcess
from support.streams import RawStream, Wire
from tidegate.serve import tracing
from tidegate.serve.__main__ import main as serve_main
from tidegate.serve.service import Service
from tidegate.serve.settings import Settings
from tidegate.v1 import inference_pb2 as pb
from tidegate.v1 import inference_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRACE, PARENT = bytes(range(1, 17)), bytes(range(1, 9))
ROW = np.full((1, 3), 0.125, np.float32)


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans that it gets."""

    def __init__(self) -> None:
        self.requests: list[trace_service_pb2.ExportTraceServiceRequest] = []

    def Export(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 - gRPC's names
        self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    def named(self, name: str) -> list[Any]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
            if span.name == name
        ]


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call] # OpenTelemetry's own
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


@contextmanager
def stub_of(target: str) -> Iterator[pb_grpc.InferenceServiceStub]:
    with grpc.insecure_channel(target) as channel:
        yield pb_grpc.InferenceServiceStub(channel)


def forecast(target: str, model: str, *, sampled: bool) -> None:
    request = pb.ForecastRequest(
        model=pb.ModelReference(name=model), windows=[pb.Window(rows=1, values=ROW.tobytes())]
    )
    parent = f"00-{TRACE.hex()}-{PARENT.hex()}-{int(sampled):02x}"
    metadata = (("traceparent", parent), ("x-request-id", "mine"))
    with stub_of(target) as stub:
        stub.Forecast(request, metadata=metadata)


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def test_a_call_its_batch_and_its_run_are_spans_of_the_callers_trace(
    models: Path, collector: tuple[Collector, str]
) -> None:
    kept, endpoint = collector
    with ServerProcess(models, "--otlp-endpoint", endpoint) as server:
        forecast(server.target, "gru", sampled=True)
        forecast(server.target, "gru", sampled=False)
        with pytest.raises(grpc.RpcError):
            forecast(server.target, "nothing", sampled=True)
        server.end()
    call, refused = kept.named("Forecast")
    (batch,), (run,) = kept.named("batch"), kept.named("run")
    assert {span.trace_id for span in (call, refused, batch, run)} == {TRACE}
    assert (call.parent_span_id, batch.parent_span_id) == (PARENT, call.span_id)
    assert run.parent_span_id == batch.span_id
    assert attributes(call) == {
        "rpc.system": "grpc",
        "rpc.method": "Forecast",
        "rpc.grpc.status_code": 0,
        "request_id": "mine",
        "model": "gru",
    }
    assert attributes(refused)["rpc.grpc.status_code"] == grpc.StatusCode.NOT_FOUND.value[0]
    assert attributes(batch) == {"tidegate.model": "gru", "tidegate.messages": 1}
    assert attributes(run) == {"tidegate.rows": 1}
    (resource,) = {str(one.resource) for r in kept.requests for one in r.resource_spans}
    assert '"tidegate-serve"' in resource


@pytest.mark.parametrize("inline_rows", [0, 64])
def test_each_message_of_a_stream_has_a_batch_in_the_trace_of_the_stream(
    models: Path, collector: tuple[Collector, str], inline_rows: int
) -> None:
    kept, endpoint = collector
    options = ("--otlp-endpoint", endpoint, "--inline-rows", str(inline_rows))
    with ServerProcess(models, *options) as server:
        with RawStream(server.target) as stream:
            (handle,) = stream.start("gru", "a secret key")
            for offset in range(3):
                stream.observe(handle, offset, ROW)
                stream.receive()
        server.end()
    (call,) = kept.named("StreamForecast")
    batches, runs = kept.named("batch"), kept.named("run")
    assert [span.parent_span_id for span in batches] == [call.span_id] * 3
    assert [span.parent_span_id for span in runs] == [span.span_id for span in batches]
    assert "secret" not in str(kept.requests)


def test_traces_of_nobody_are_not_begun_at_ratio_0(
    models: Path, collector: tuple[Collector, str]
) -> None:
    kept, endpoint = collector
    with ServerProcess(models, "--otlp-endpoint", endpoint, "--trace-ratio", "0") as server:
        with RawStream(server.target) as stream:
            (handle,) = stream.start("gru", "a")
            stream.observe(handle, 0, ROW)
            stream.receive()
        forecast(server.target, "gru", sampled=True)
        server.end()
    assert not kept.named("StreamForecast")
    assert len(kept.named("Forecast")) == len(kept.named("batch")) == 1


async def test_a_batch_for_several_calls_is_a_child_of_one_and_linked_to_the_others(
    models: Path, collector: tuple[Collector, str]
) -> None:
    kept, endpoint = collector
    service = Service(Settings(models=models, provider="cpu"))
    wires = [Wire(service) for _ in range(3)]
    handles = [(await wire.start("gru", str(key)))[0] for key, wire in enumerate(wires)]

    async def observe(wire: Wire, handle: int) -> None:
        with tracing.call("observe", ()):
            await wire.observe(handle, 0, ROW)

    tracing.start(endpoint, 1.0)
    await asyncio.gather(*map(observe, wires, handles))
    tracing.stop()
    service.close()
    calls = {span.span_id for span in kept.named("observe")}
    (batch,) = kept.named("batch")
    assert {batch.parent_span_id, *(link.span_id for link in batch.links)} == calls
    assert (len(batch.links), attributes(batch)["tidegate.messages"]) == (2, 3)


def test_without_an_endpoint_opentelemetry_is_not_even_imported() -> None:
    code = (
        "import sys, tidegate.serve.server; from tidegate.serve import tracing; "
        "tracing.start('', 1.0); assert tracing.here() is None; "
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_traces_without_opentelemetry_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(ValueError, match=r"pip install 'tidegate\[otel\]'"):
        tracing.start("http://127.0.0.1:4317", 1.0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--otlp-endpoint", "127.0.0.1:4317"], "otlp_endpoint is '127.0.0.1:4317': use http://"),
        (["--trace-ratio", "1.5"], "trace_ratio is 1.5; it must be 0 to 1"),
    ],
)
def test_settings_of_traces_that_cannot_work_are_refused(
    models: Path, capsys: pytest.CaptureFixture[str], options: list[str], text: str
) -> None:
    assert serve_main(["--models", str(models), "--provider", "cpu", "--port", "0", *options]) == 2
    assert text in capsys.readouterr().err
