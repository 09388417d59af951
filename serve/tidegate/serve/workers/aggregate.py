"""The metrics of all workers as those of one server."""

from __future__ import annotations

import logging
import threading
import urllib.request
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_TIMEOUT_SECONDS = 2.0
# Every other gauge is of something that all workers have of their own, and adds up.
_GAUGES: dict[str, Callable[[float, float], float]] = {
    "tidegate_draining": max,
    "tidegate_state_store_available": min,
    "tidegate_state_store_behind_seconds": max,
    "process_start_time_seconds": min,
    "process_max_fds": min,
    "tidegate_model_info": max,
    "tidegate_gpu_memory_used_bytes": max,
    "tidegate_gpu_memory_bytes": max,
    "python_info": max,
}

# Name and labels of a sample, in this order.
Key = tuple[str, tuple[tuple[str, str], ...]]
logger = logging.getLogger(__name__)


class Aggregate:
    """Reads the workers when it is read itself, and adds up.

    Counters of a worker that has ended stay in the sums as they were when it was
    read last, so that no sum ever falls.

    Attributes:
        restarts: Workers that were started again.

    Args:
        wanted: Workers that there should be.
    """

    def __init__(self, wanted: int) -> None:
        self.restarts = 0
        self._wanted = wanted
        self._ports: dict[int, int | None] = {}
        self._last: dict[int, dict[str, Metric]] = {}
        self._ended: dict[str, Metric] = {}
        # Several readers may come at once.
        self._lock = threading.Lock()

    def add(self, pid: int, port: int | None) -> None:
        """A worker is ready, and answers `GET /metrics` on this port of loopback."""
        self._ports[pid] = port

    def remove(self, pid: int) -> None:
        """A worker has ended."""
        self._ports.pop(pid, None)

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is depends on the workers."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        ports = self._ports.copy()
        yield GaugeMetricFamily("tidegate_workers", "Workers that are ready.", value=len(ports))
        yield GaugeMetricFamily("tidegate_workers_wanted", "--workers.", value=self._wanted)
        yield CounterMetricFamily(
            "tidegate_worker_restarts", "Workers started again.", value=self.restarts
        )
        with self._lock:
            yield from self._sums(ports).values()

    def _sums(self, ports: dict[int, int | None]) -> dict[str, Metric]:
        for pid, port in ports.items():
            if port is not None:
                self._read(pid, port)
        for pid in self._last.keys() - ports.keys():
            counters = [one for one in self._last.pop(pid).values() if one.type != "gauge"]
            self._ended = _summed([self._ended.values(), counters])
        return _summed([self._ended.values(), *map(dict.values, self._last.values())])

    def _read(self, pid: int, port: int) -> None:
        """Takes the numbers of a worker; those of one that does not answer stay as they were."""
        url = f"http://127.0.0.1:{port}/metrics"
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as answer:
                text = answer.read().decode()
        except OSError as error:
            logger.warning("the metrics of worker process %d cannot be read: %s", pid, error)
            return
        self._last[pid] = {one.name: one for one in text_string_to_metric_families(text)}


def _summed(parts: Iterable[Iterable[Metric]]) -> dict[str, Metric]:
    """Families of several workers as those of one, by name."""
    texts: dict[str, Metric] = {}
    values: dict[str, dict[Key, float]] = {}
    for family in (one for part in parts for one in part):
        texts[family.name] = family
        combine = _GAUGES.get(family.name, float.__add__)
        numbers = values.setdefault(family.name, {})
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                key = (sample.name, tuple(sample.labels.items()))
                before = numbers.get(key)
                value = float(sample.value)
                numbers[key] = value if before is None else combine(before, value)
    return {name: _family(texts[name], numbers) for name, numbers in values.items()}


def _family(like: Metric, numbers: dict[Key, float]) -> Metric:
    family = Metric(like.name, like.documentation, like.type)
    for (name, labels), value in numbers.items():
        family.add_sample(name, dict(labels), value)
    return family
