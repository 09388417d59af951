"""`tidegate-serve`: serves the models of a folder."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf import json_format

# The first is imported for its effect, before anything imports grpc.
from tidegate.serve import grpc_experiments, logs  # noqa: F401
from tidegate.serve.errors import LoadError
from tidegate.serve.options import add_settings
from tidegate.serve.server import serve
from tidegate.serve.session import Session
from tidegate.serve.settings import Settings
from tidegate.serve.spec import check_spec, read_spec, spec_digest

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments[:1] == ["inspect"]:
            return _inspect(_inspect_parser().parse_args(arguments[1:]).file)
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


def _inspect_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tidegate-serve inspect", description="Prints what an ONNX file says about itself."
    )
    parser.add_argument("file", type=Path)
    return parser


def _inspect(path: Path) -> int:
    session = Session(path.read_bytes(), "cpu")
    text = session.spec_text
    spec = read_spec(text)
    check_spec(spec, session.inputs, session.outputs)
    for kind, tensors in (("input", session.inputs), ("output", session.outputs)):
        for tensor in tensors:
            print(f"{kind:7}{tensor.name:20}{tensor.dtype:9}{list(tensor.shape)}")
    print(f"{'run as':7}{' '.join(sorted(set().union(*session.operators.values())))}")
    print(f"{'digest':7}{spec_digest(text).hex()}")
    print(json_format.MessageToJson(spec))
    return 0


def _announce(address: str) -> None:
    print(f"tidegate-serve listening on {address}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
