"""The server's certificates, read again when they change."""

from __future__ import annotations

import logging
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from tidegate.serve.settings import Settings

logger = logging.getLogger(__name__)


def server_credentials(settings: Settings) -> grpc.ServerCredentials:
    """TLS, and mutual TLS where there is a `tls_client_ca`.

    Every handshake sees the files as they are; live connections stay.

    Raises:
        ValueError: A file cannot be read, or the key does not fit the certificate.
    """
    files = _Files(settings)
    fetch: Any = files.changed  # The stubs do not know that it may return None.
    return grpc.dynamic_ssl_server_credentials(
        files.read(), fetch, require_client_authentication=settings.tls_client_ca is not None
    )


class _Files:
    """Certificate, key and client authorities on disk.

    Handshakes ask from threads of gRPC.
    """

    def __init__(self, settings: Settings) -> None:
        self._paths = [
            path
            for path in (settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
            if path is not None
        ]
        self._lock = threading.Lock()
        self._stamp = self._read_stamp()

    def read(self) -> grpc.ServerCertificateConfiguration:
        contents = []
        for path in self._paths:
            try:
                contents.append(path.read_bytes())
            except OSError as error:
                raise ValueError(f"TLS file {path} cannot be read: {error.strerror}") from error
        _check_pair(*self._paths[:2])
        certificate, key, *authorities = contents
        return grpc.ssl_server_certificate_configuration(
            [(key, certificate)], authorities[0] if authorities else None
        )

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """The configuration if the files have changed since it was asked last; gRPC's contract.

        Files that cannot be read, or that gRPC refuses, leave what was there.
        """
        with self._lock:
            stamp = self._read_stamp()
            if stamp == self._stamp:
                return None
            try:
                configuration = self.read()
            except ValueError as error:
                # Perhaps only one of them has been replaced yet: the next handshake looks again.
                logger.error("the certificates stay as they were: %s", error)  # noqa: TRY400 - the text says it
                return None
            self._stamp = stamp
            logger.info("read the certificates again")
            return configuration

    def _read_stamp(self) -> list[tuple[int, int]]:
        return [_stamp(path) for path in self._paths]


def _check_pair(certificate: Path, key: Path) -> None:
    """GRPC would say what is wrong with them only in its own log, at every handshake."""
    try:
        # The empty password keeps OpenSSL from asking for one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError) as error:
        raise ValueError(
            f"TLS certificate {certificate} and key {key} cannot be used: {error}"
        ) from error


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return status.st_mtime_ns, status.st_size
