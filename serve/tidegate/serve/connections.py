"""What gRPC itself is told of connections and messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidegate.serve.settings import Settings


def channel_options(settings: Settings) -> list[tuple[str, int]]:
    """The options of the server's channels, named in grpc's `channel_arg_names.h`."""
    options = [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        # Two servers on one port would share its streams at random; workers mean to.
        ("grpc.so_reuseport", int(settings.workers > 1)),
        ("grpc.keepalive_time_ms", _ms(settings.keepalive_seconds)),
        ("grpc.keepalive_timeout_ms", _ms(settings.keepalive_seconds / 3)),
        # What ends a connection whose pings are not answered in grpcio 1.85 (measured); else 60 s.
        ("grpc.http2.ping_timeout_ms", _ms(settings.keepalive_seconds / 3)),
        # A stream may pause for hours, and its client may ask meanwhile whether
        # the server is there. gRPC's own limit is one such ping in 5 minutes.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(settings.keepalive_seconds / 2)),
    ]
    if settings.max_connection_age:
        options += [
            ("grpc.max_connection_age_ms", _ms(settings.max_connection_age)),
            ("grpc.max_connection_age_grace_ms", _ms(settings.max_connection_age_grace)),
        ]
    return options


def _ms(seconds: float) -> int:
    return max(1, round(1e3 * seconds))
