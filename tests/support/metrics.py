"""Reads what a server says about itself to Prometheus."""

from __future__ import annotations

import socket
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

Scraped = dict[tuple[str, frozenset[tuple[str, str]]], float]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Scraper:
    """Reads the metrics of a server."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/metrics"

    def read(self) -> Scraped:
        with urllib.request.urlopen(self._url, timeout=5) as answer:  # noqa: S310 - http
            families = text_string_to_metric_families(answer.read().decode())
            return {
                (sample.name, frozenset(sample.labels.items())): sample.value
                for family in families
                for sample in family.samples
            }

    def value(self, name: str, **labels: str) -> float:
        return self.read().get((f"tidegate_{name}", frozenset(labels.items())), 0.0)
