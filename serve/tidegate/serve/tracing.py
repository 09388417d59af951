"""OpenTelemetry traces, off unless asked for; no other file imports it.

A span for each call, from its request to its status, with the caller's span as
parent where it sent one (`traceparent`, W3C Trace Context). A span for each batch
that answers a recorded call: a child of the first, linked to the others, because
it belongs to several traces. And one for each run of the network within it. Names
and numbers, never a payload.

As in OpenTelemetry itself there is one tracer in a process.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Link, Span

_OFF: AbstractContextManager[Any] = contextlib.nullcontext()
_provider: TracerProvider | None = None


def start(endpoint: str, ratio: float) -> None:
    """Sends spans to a collector from now on; without an endpoint there are none.

    Args:
        endpoint: http://HOST:PORT or https://HOST:PORT of OTLP over gRPC.
        ratio: Share of the traces that begin here; one that the caller has
            begun is recorded if the caller records it.

    Raises:
        ValueError: OpenTelemetry is not installed, or the endpoint is no address.
    """
    global _provider
    if not endpoint:
        return
    if not endpoint.startswith(("http://", "https://")):
        raise ValueError(
            f"otlp_endpoint is {endpoint!r}: use http://HOST:PORT or https://HOST:PORT"
        )
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
    except ModuleNotFoundError as error:
        raise ValueError("otlp_endpoint needs pip install 'tidegate[otel]'") from error
    # What OpenTelemetry's own variable says counts more than our name.
    name = os.environ.get("OTEL_SERVICE_NAME", "tidegate-serve")
    resource = Resource.create({SERVICE_NAME: name})
    _provider = TracerProvider(resource=resource, sampler=ParentBasedTraceIdRatio(ratio))
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))


def stop() -> None:
    """Sends what is left, and ends."""
    global _provider
    if _provider is not None:
        _provider.shutdown()
        _provider = None


def call(method: str, metadata: Iterable[tuple[str, Any]]) -> AbstractContextManager[Span | None]:
    """The span of a call; what it calls is within it."""
    return _OFF if _provider is None else _call(_provider, method, metadata)


def batch(model: str, calls: Sequence[Link | None]) -> AbstractContextManager[Span | None]:
    """The span of a batch for some calls, each as it was `here`."""
    if _provider is None:
        return _OFF
    recorded = [link for link in calls if link is not None]
    if not recorded:
        return _OFF
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context

    first, *others = recorded
    return _provider.get_tracer(__name__).start_as_current_span(
        "batch",
        context=set_span_in_context(NonRecordingSpan(first.context)),
        attributes={"tidegate.model": model, "tidegate.messages": len(calls)},
        links=others,
    )


def run(rows: int) -> AbstractContextManager[Span | None]:
    """The span of a run of the network on so many rows, padding included, within its batch's."""
    if here() is None or _provider is None:
        return _OFF
    return _provider.get_tracer(__name__).start_as_current_span(
        "run", attributes={"tidegate.rows": rows}
    )


def here() -> Link | None:
    """The span at hand, for the batch that answers it; None if it is not recorded."""
    if _provider is None:
        return None
    from opentelemetry.trace import Link, get_current_span

    context = get_current_span().get_span_context()
    return Link(context) if context.trace_flags.sampled else None


@contextlib.contextmanager
def _call(
    provider: TracerProvider, method: str, metadata: Iterable[tuple[str, Any]]
) -> Iterator[Span]:
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {key: value for key, value in metadata if isinstance(value, str)}
    with provider.get_tracer(__name__).start_as_current_span(
        method,
        context=TraceContextTextMapPropagator().extract(carrier),
        kind=SpanKind.SERVER,
        attributes={"rpc.system": "grpc", "rpc.method": method},
        # A refusal is an answer; its text may name a series.
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        yield span
