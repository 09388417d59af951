"""Switches of gRPC's core, which reads them once: when `grpc` is imported.

The event engine of grpcio 1.85 costs a server of many small stream messages
about a fifth of its throughput at 32 streams and more at 256; docs/benchmarks.md
has the figures.
"""

from __future__ import annotations

import os

EXPERIMENTS = "-event_engine_listener,-event_engine_client,-event_engine_for_all_other_endpoints"


def choose_experiments() -> None:
    """Sets the switches of this process and of those it starts; a value set outside wins."""
    os.environ.setdefault("GRPC_EXPERIMENTS", EXPERIMENTS)
