"""Switches of gRPC's core that are read once, when `grpc` is imported.

The event engine of grpcio 1.85 costs a server of many small stream messages
about a fifth of its throughput, and a single ping-pong stream half of it. Commands
import this file before anything imports `grpc`; a value set outside wins.
"""

from __future__ import annotations

import os

EXPERIMENTS = "-event_engine_listener,-event_engine_client,-event_engine_for_all_other_endpoints"

os.environ.setdefault("GRPC_EXPERIMENTS", EXPERIMENTS)
