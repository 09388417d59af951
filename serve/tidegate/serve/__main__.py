"""`tidegate-serve`: serves the models of a folder."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

# The first is imported for its effect, before anything imports grpc.
from tidegate.serve import grpc_experiments, inspection  # noqa: F401
from tidegate.serve.address import join_address
from tidegate.serve.errors import LoadError
from tidegate.serve.options import read_options
from tidegate.serve.server import serve
from tidegate.serve.workers.supervisor import supervise

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments[:1] == ["inspect"]:
            return inspection.run(arguments[1:])
        settings = read_options(arguments)
        if settings.workers > 1:
            return supervise(settings, arguments, lambda port: _announce(settings.host, port))
        asyncio.run(serve(settings, lambda server: _announce(settings.host, server.port)))
    except (LoadError, ValueError, OSError) as error:
        print(f"tidegate-serve: {error}", file=sys.stderr)
        return 2
    return 0


def _announce(host: str, port: int) -> None:
    print(f"tidegate-serve listening on {join_address(host, port)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
