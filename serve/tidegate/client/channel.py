"""The connection to a server: encrypted and with a token where that is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

MAX_MESSAGE_BYTES = 64 * 2**20
OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A stream whose server vanished without a word ends after this.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # What ends a connection whose pings are not answered in grpcio 1.85 (measured); else 60 s.
    ("grpc.http2.ping_timeout_ms", 10_000),
    # A server that is back is found by who tries again, not by gRPC's own pauses.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Whatever its name says, the time that one attempt has: several round trips, with TLS.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


@dataclass(frozen=True, kw_only=True)
class Security:
    """How a client proves who it is, and whom it believes.

    Attributes:
        tls: Whether to encrypt; the server must show a certificate.
        ca: PEM file of the authorities believed; None: the system's.
        certificate: PEM file of the client's own certificate, for mutual TLS.
        key: PEM file of its private key.
        token: Bearer token; empty: none is sent. Without TLS, everyone on the way
            can read it.

    Raises:
        ValueError: What is given needs more.
    """

    tls: bool = False
    ca: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None
    token: str = ""

    def __post_init__(self) -> None:
        """Refuses what could not work."""
        if not self.tls and (self.ca or self.certificate or self.key):
            raise ValueError("ca, certificate and key need tls=True")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together; one of them is missing")

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What each call carries."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def credentials(self) -> grpc.ChannelCredentials | None:
        """For gRPC's channels of either kind; None: an insecure one.

        Raises:
            OSError: A file cannot be read.
        """
        if not self.tls:
            return None
        return grpc.ssl_channel_credentials(
            _read(self.ca), _read(self.key), _read(self.certificate)
        )


PLAIN = Security()


def open_channel(target: str, security: Security = PLAIN) -> grpc.Channel:
    """A channel to "HOST:PORT" whose calls carry the token.

    Raises:
        OSError: A file of certificates cannot be read.
    """
    credentials = security.credentials()
    if credentials is None:
        channel = grpc.insecure_channel(target, options=OPTIONS)
    else:
        channel = grpc.secure_channel(target, credentials, options=OPTIONS)
    if not security.metadata:
        return channel
    return grpc.intercept_channel(channel, _Metadata(security.metadata))


class _Details(NamedTuple):
    """What gRPC's interceptors pass on."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: Any


class _Metadata(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Adds metadata to each call."""

    def __init__(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self._metadata = metadata

    def intercept_unary_unary(
        self,
        continuation: Callable[..., T],
        client_call_details: grpc.ClientCallDetails,
        request: object,
    ) -> T:
        return continuation(self._with_metadata(client_call_details), request)

    def intercept_stream_stream(
        self,
        continuation: Callable[..., T],
        client_call_details: grpc.ClientCallDetails,
        request_iterator: object,
    ) -> T:
        return continuation(self._with_metadata(client_call_details), request_iterator)

    def _with_metadata(self, details: grpc.ClientCallDetails) -> _Details:
        return _Details(
            details.method,
            details.timeout,
            (*(details.metadata or ()), *self._metadata),
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )


def _read(path: str | Path | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()
