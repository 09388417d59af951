"""One worker: `python -m tidegate.serve.workers.worker CONTROL_FD OPTIONS...`, by the supervisor.

Over the control socket it says, in one line of JSON, that it is ready, and from
then on, in an empty line now and then, that its event loop turns. When the other
end closes, the supervisor is no more and the worker drains too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from typing import TYPE_CHECKING

from tidegate.serve.errors import LoadError
from tidegate.serve.options import read_options
from tidegate.serve.server import serve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tidegate.serve.server import Server

# Signs of life within the time after which a worker without one is killed.
_BEATS = 4


def main(arguments: Sequence[str]) -> int:
    """Serves until told to stop; returns the exit status."""
    control = socket.socket(fileno=int(arguments[0]))
    control.setblocking(False)

    try:
        settings = read_options(arguments[1:])

        def announce(server: Server) -> None:
            ready = {"metrics_port": server.metrics_port}
            control.send(json.dumps(ready).encode() + b"\n")
            asyncio.get_running_loop().add_reader(control, _end, control)
            _beat(control, settings.worker_timeout_seconds / _BEATS)

        asyncio.run(serve(settings, announce))
    except (LoadError, ValueError, OSError) as error:
        print(f"tidegate-serve: {error}", file=sys.stderr)
        return 2
    return 0


def _beat(control: socket.socket, seconds: float) -> None:
    """Shows that the event loop turns, now and after each so many seconds."""
    # A supervisor that reads nothing for long has signs enough; of its end `_end` is told.
    with contextlib.suppress(BlockingIOError, ConnectionError):
        control.send(b"\n")
    asyncio.get_running_loop().call_later(seconds, _beat, control, seconds)


def _end(control: socket.socket) -> None:
    """Drains: the supervisor never writes, so what can be read is its end."""
    asyncio.get_running_loop().remove_reader(control)
    signal.raise_signal(signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
