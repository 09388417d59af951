"""Tokens, clients that show them, and what the log says of their calls."""

from __future__ import annotations

import hashlib
import json
import logging
import queue
from typing import Any

import numpy as np

from support.certificates import Authority
from tidegate.client import Client, Security
from tidegate.serve.logs import JsonFormatter
from tidegate.v1 import inference_pb2 as pb

ROW = np.zeros(3, np.float32)


def table(name: str, roles: str, secret: str = "", **limits: float) -> str:
    """A token whose text is `secret-NAME`, or `secret-SECRET`."""
    digest = hashlib.sha256(f"secret-{secret or name}".encode()).hexdigest()
    lines = [f'name = "{name}"', f'sha256 = "{digest}"', f"roles = {roles}"]
    lines += [f"{key} = {value}" for key, value in limits.items()]
    return "[[tokens]]\n" + "\n".join(lines) + "\n"


class Ends(logging.Handler):
    """Keeps what the log says of calls that have ended."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self._queue: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "call ended":
            self._queue.put(json.loads(self.format(record)))

    def next(self) -> dict[str, str]:
        return self._queue.get(timeout=10)


def client_of(target: str, name: str = "", **security: Any) -> Client:
    token = f"secret-{name}" if name else ""
    return Client(target, timeout=10, security=Security(token=token, **security))


def tls_options(authority: Authority, **options: Any) -> dict[str, Any]:
    certificate, key = authority.issue("server")
    return {"tls_certificate": certificate, "tls_key": key, **options}


def forecast(client: Client) -> None:
    """Without asking for the spec first, which needs the role read."""
    window = pb.Window(rows=1, values=ROW.tobytes())
    request = pb.ForecastRequest(model=pb.ModelReference(name="gru"), windows=[window])
    client._stubs[0].Forecast(request)
