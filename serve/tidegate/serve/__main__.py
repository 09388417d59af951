"""`tidegate-serve`: serves the models of a folder, in this process or in several.

Each use loads what it needs: the supervisor of several workers runs no network and
speaks no gRPC.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from tidegate.serve.address import join_address
from tidegate.serve.errors import LoadError
from tidegate.serve.grpc_experiments import choose_experiments
from tidegate.serve.options import read_options

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return _run(arguments)
    except (LoadError, ValueError, OSError) as error:
        print(f"tidegate-serve: {error}", file=sys.stderr)
        return 2


def _run(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["inspect"]:
        from tidegate.serve import inspection

        return inspection.run(arguments[1:])
    settings = read_options(arguments)
    # Before anything loads grpc, here or in a worker.
    choose_experiments()
    if settings.workers > 1:
        from tidegate.serve.workers.supervisor import supervise

        return supervise(settings, arguments, lambda port: _announce(settings.host, port))
    from tidegate.serve.server import serve

    asyncio.run(serve(settings, lambda server: _announce(settings.host, server.port)))
    return 0


def _announce(host: str, port: int) -> None:
    print(f"tidegate-serve listening on {join_address(host, port)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
