"""One worker: `python -m tidegate.serve.workers.worker CONTROL_FD OPTIONS...`, by the supervisor.

Over the control socket it says, in one line of JSON, that it is ready. When the
other end closes, the supervisor is no more and the worker drains too.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from typing import TYPE_CHECKING

import tidegate.serve.grpc_experiments  # noqa: F401 - for its effect, before grpc
from tidegate.serve.errors import LoadError
from tidegate.serve.options import read_options
from tidegate.serve.server import serve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tidegate.serve.server import Server


def main(arguments: Sequence[str]) -> int:
    """Serves until told to stop; returns the exit status."""
    control = socket.socket(fileno=int(arguments[0]))
    control.setblocking(False)

    def announce(server: Server) -> None:
        ready = {"metrics_port": server.metrics_port}
        control.send(json.dumps(ready).encode() + b"\n")
        asyncio.get_running_loop().add_reader(control, _end, control)

    try:
        asyncio.run(serve(read_options(arguments[1:]), announce))
    except (LoadError, ValueError, OSError) as error:
        print(f"tidegate-serve: {error}", file=sys.stderr)
        return 2
    return 0


def _end(control: socket.socket) -> None:
    """Drains: the supervisor never writes, so what can be read is its end."""
    asyncio.get_running_loop().remove_reader(control)
    signal.raise_signal(signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
