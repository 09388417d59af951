"""One port for several processes."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tidegate.serve.address import join_address

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def shared_port(host: str, port: int) -> Iterator[int]:
    """Holds a port that processes of this user may listen on together (SO_REUSEPORT).

    The socket here is bound and never listens, so it gets no connection; while it
    is open, nobody else gets the port.

    Args:
        host: Address that they listen on.
        port: The port; 0 takes a free one.

    Yields:
        The port.

    Raises:
        OSError: It is in use, or the system cannot share ports.
    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise OSError("workers above 1 need a system with SO_REUSEPORT, such as Linux")
    family, kind, protocol, _, address = socket.getaddrinfo(
        host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    try:
        # Without the option first: with it, two servers would share their connections.
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
        with socket.socket(family, kind, protocol) as holder:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind(address)
            yield holder.getsockname()[1]
    except OSError as error:
        raise OSError(f"cannot listen on {join_address(host, port)}: is it in use?") from error
