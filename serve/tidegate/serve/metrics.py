"""The numbers of a service as metrics for Prometheus."""

from __future__ import annotations

import time
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)

from tidegate.serve.gpu import gpu_memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client import Metric

    from tidegate.serve.model import Model
    from tidegate.serve.service import Service
    from tidegate.serve.stats import Histogram

_MODEL = ("model", "version")


class ServiceCollector:
    """The numbers of a service as Prometheus metrics, read when they are asked for.

    It runs in the thread of the HTTP server: each number is read once, and what
    may grow meanwhile is copied first.

    Args:
        service: Whose numbers.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        yield from self._server()
        yield from self._models()
        yield from self._series()
        yield from self._store()
        yield from _gpus()

    def _server(self) -> Iterator[Metric]:
        service, stats = self._service, self._service.stats
        yield _gauge("streams", "Open StreamForecast calls.", len(service.calls))
        yield _gauge("draining", "1 from SIGTERM on.", int(service.draining))
        yield _counter("calls", "Ended calls.", ("method", "code"), stats.calls.copy())
        yield _counter(
            "errors",
            "Refused calls, and refused chunks of single series.",
            ("code", "model"),
            stats.errors.copy(),
        )
        failures = service.repository.failures.copy()
        yield _counter(
            "model_load_failures",
            "Versions that could not be loaded; without a model: sources that could not be read.",
            ("model",),
            failures,
        )
        for name, text, value in (
            ("received_bytes", "Bytes of messages received.", stats.received_bytes),
            ("sent_bytes", "Bytes of messages sent.", stats.sent_bytes),
        ):
            yield CounterMetricFamily(f"tidegate_{name}", text, value=value)

    def _models(self) -> Iterator[Metric]:
        info = InfoMetricFamily("tidegate_model", "Loaded models.", labels=_MODEL)
        steps = CounterMetricFamily(
            "tidegate_steps", "Observations and tokens that were run.", labels=_MODEL
        )
        rows = _histogram("batch_rows", "Rows of a run of the network, padding included.")
        queued = _histogram(
            "queue_seconds", "Time for which the oldest message of a batch waited for its run."
        )
        runs = _histogram("run_seconds", "Time of a run of the network.")
        for model in self._service.repository.list():
            labels, stats = _labels(model), model.stats
            info.add_metric(
                labels,
                {
                    "sha256": model.sha256,
                    "provider": model.session.provider,
                    "aliases": ",".join(self._service.repository.aliases(model)),
                },
            )
            steps.add_metric(labels, stats.steps)
            _add(rows, labels, stats.rows)
            _add(queued, labels, stats.queue_seconds)
            _add(runs, labels, stats.run_seconds)
        yield from (info, steps, rows, queued, runs)

    def _series(self) -> Iterator[Metric]:
        held = GaugeMetricFamily("tidegate_series", "Series whose state is held.", labels=_MODEL)
        size = GaugeMetricFamily(
            "tidegate_state_bytes", "Memory reserved for the states of series.", labels=_MODEL
        )
        for table in self._service.tables:
            labels, slots = _labels(table.model), table.slots
            held.add_metric(labels, slots.used)
            size.add_metric(labels, slots.size * sum(state.nbytes for state in table.model.states))
        yield from (held, size)

    def _store(self) -> Iterator[Metric]:
        """The state store, where there is one."""
        status = self._service.store_status
        if status is None:
            return
        since = status.behind_since
        # The clock of the event loop is this one.
        behind = 0.0 if since is None else time.monotonic() - since
        yield _gauge("state_store_available", "1 when it answered last.", int(status.available))
        yield _gauge("state_store_behind_seconds", "Age of the oldest state not stored.", behind)
        for name, text, value in (
            ("written", "States stored.", status.written),
            ("refused", "Writes of series that another replica has taken.", status.refused),
            ("failures", "Round trips that failed.", status.failures),
            ("forgotten", "States given up because too many waited.", status.forgotten),
        ):
            yield CounterMetricFamily(f"tidegate_state_store_{name}", text, value=value)


def registry_of(service: Service) -> CollectorRegistry:
    """The numbers of a service, and those of the process that it runs in."""
    registry = CollectorRegistry()
    registry.register(ServiceCollector(service))
    # Memory, processor time and open files of the process; what Python is; its garbage.
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


def _gpus() -> Iterator[Metric]:
    """The GPUs, where there are some."""
    gpus = list(gpu_memory())
    if not gpus:
        return
    used = GaugeMetricFamily("tidegate_gpu_memory_used_bytes", "Used by anybody.", labels=["gpu"])
    total = GaugeMetricFamily("tidegate_gpu_memory_bytes", "Of the GPU.", labels=["gpu"])
    for gpu in gpus:
        used.add_metric([str(gpu.number)], gpu.used)
        total.add_metric([str(gpu.number)], gpu.total)
    yield from (used, total)


def _labels(model: Model) -> list[str]:
    return [model.name, model.version]


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"tidegate_{name}", text, value=value)


def _counter(name: str, text: str, labels: tuple[str, ...], values: Mapping[Any, int]) -> Metric:
    """A counter; the keys of the values are a label or a tuple of labels."""
    family = CounterMetricFamily(f"tidegate_{name}", text, labels=labels)
    for key, value in values.items():
        family.add_metric((key,) if isinstance(key, str) else key, value)
    return family


def _histogram(name: str, text: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"tidegate_{name}", text, labels=_MODEL)


def _add(family: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    bounds = [*(str(float(bound)) for bound in histogram.bounds), "+Inf"]
    counts = accumulate(histogram.counts)
    family.add_metric(labels, list(zip(bounds, counts, strict=True)), histogram.total)
