"""`GET /metrics` for Prometheus, over HTTP on a port of its own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from prometheus_client import start_http_server

from tidegate.serve.address import join_address

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

logger = logging.getLogger(__name__)


class MetricsServer:
    """Answers `GET /metrics` from a thread of its own.

    Attributes:
        port: The port it listens on.

    Args:
        registry: What is collected when it is asked.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.

    Raises:
        OSError: The port cannot be bound.
    """

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        try:
            self._server, self._thread = start_http_server(port, host.strip("[]"), registry)
        except OSError as error:
            address = join_address(host, port)
            raise OSError(f"cannot serve metrics on {address}: {error.strerror}") from error
        self.port = self._server.server_port
        logger.info("serving metrics", extra={"port": self.port})

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
