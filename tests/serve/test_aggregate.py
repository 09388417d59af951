"""Metrics of several workers as those of one server."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tidegate.serve.workers.aggregate import Aggregate

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_the_sums_over_workers_never_fall_when_one_ends() -> None:
    aggregate = Aggregate(wanted=2)
    with ExitStack() as stack:
        for number, pid in ((3, 1), (4, 2)):
            aggregate.add(pid, stack.enter_context(metrics_of(number)))
        assert totals(aggregate) == {
            "tidegate_workers": 2,
            "tidegate_steps_total": 7,
            "tidegate_streams": 7,
            "tidegate_draining": 4,
            "tidegate_state_store_available": 3,
            "tidegate_run_seconds_sum": 7,
            "tidegate_run_seconds_count": 2,
        }
        aggregate.remove(1)
        after = totals(aggregate)
    assert (after["tidegate_steps_total"], after["tidegate_run_seconds_sum"]) == (7, 7)
    # What a worker had is gone with it, what it did is not.
    assert (after["tidegate_workers"], after["tidegate_streams"]) == (1, 4)


def totals(aggregate: Aggregate) -> dict[str, float]:
    wanted = {"_workers", "_total", "_streams", "_draining", "_available", "_sum", "_count"}
    return {
        sample.name: sample.value
        for family in aggregate.collect()
        for sample in family.samples
        if "_" + sample.name.rpartition("_")[2] in wanted and "restarts" not in sample.name
    }


@contextmanager
def metrics_of(number: int) -> Iterator[int]:
    """A worker's metrics over HTTP, all of them this number; yields the port."""
    registry = CollectorRegistry()
    Counter("tidegate_steps", "", registry=registry).inc(number)
    for name in ("streams", "draining", "state_store_available"):
        Gauge(f"tidegate_{name}", "", registry=registry).set(number)
    Histogram("tidegate_run_seconds", "", registry=registry).observe(number)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(generate_latest(registry))

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()
