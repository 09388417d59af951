"""What stands between the network and the service: TLS, tokens, and a warning without them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tidegate.serve.access import Gate
from tidegate.serve.address import is_loopback
from tidegate.serve.tls import server_credentials
from tidegate.serve.tokens import TokenFile

if TYPE_CHECKING:
    import grpc.aio

    from tidegate.serve.settings import Settings
    from tidegate.serve.stats import ServerStats

logger = logging.getLogger(__name__)


class Security:
    """Security of one server, as its settings say.

    Attributes:
        tokens: The bearer tokens that are known; None: nobody needs one.

    Args:
        settings: Names the files.

    Raises:
        ValueError: A file cannot be read, or is wrong.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.tokens = TokenFile(settings.tokens) if settings.tokens else None
        self._credentials = server_credentials(settings) if settings.tls_certificate else None

    def interceptors(self, stats: ServerStats) -> list[grpc.aio.ServerInterceptor]:
        """What a call passes first."""
        return [] if self.tokens is None else [Gate(self.tokens, stats)]

    def add_port(self, server: grpc.aio.Server, address: str) -> int:
        """Listens; returns the port.

        Raises:
            RuntimeError: The port cannot be bound.
        """
        if self._credentials is not None:
            return server.add_secure_port(address, self._credentials)
        if self._settings.is_open:
            logger.warning("--insecure: whoever reaches %s may use this server", address)
        elif not is_loopback(self._settings.host):
            logger.warning("without --tls-certificate, tokens and data cross the network readably")
        return server.add_insecure_port(address)
