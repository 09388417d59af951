"""`tidegate-serve`: serves the models of a folder."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING

# The first is imported for its effect, before anything imports grpc.
from tidegate.serve import grpc_experiments, inspection, logs  # noqa: F401
from tidegate.serve.errors import LoadError
from tidegate.serve.options import add_settings
from tidegate.serve.server import serve
from tidegate.serve.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments[:1] == ["inspect"]:
            return inspection.run(arguments[1:])
        options = vars(_parser().parse_args(arguments))
        logs.configure(options.pop("log_level"))
        asyncio.run(serve(Settings(**options), _announce))
    except (LoadError, ValueError, OSError) as error:
        print(f"tidegate-serve: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tidegate-serve",
        description="Serves the models of a folder over gRPC until SIGTERM.",
        epilog="`tidegate-serve inspect FILE` prints what an ONNX file says about itself.",
    )
    add_settings(parser)
    levels = ("debug", "info", "warning", "error")
    parser.add_argument(
        "--log-level", choices=levels, default="info", help="Least level logged. Default: info."
    )
    return parser


def _announce(address: str) -> None:
    print(f"tidegate-serve listening on {address}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
