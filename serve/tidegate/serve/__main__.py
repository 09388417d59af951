"""`tidegate-serve`: serves the models of a folder."""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from google.protobuf import json_format

# The first is imported for its effect, before anything imports grpc.
from tidegate.serve import grpc_experiments, logs  # noqa: F401
from tidegate.serve.errors import LoadError
from tidegate.serve.server import serve
from tidegate.serve.session import Session
from tidegate.serve.settings import Provider, Settings
from tidegate.serve.spec import check_spec, read_spec, spec_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

_PATHS = {"models", "checkpoint_key_file"}


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
    helps = _attribute_docs()
    for field in fields(Settings):
        option = "--" + field.name.replace("_", "-")
        text = f"{helps[field.name]} Default: {field.default}."
        if isinstance(field.default, bool):
            parser.add_argument(option, action="store_true", help=helps[field.name])
        elif field.name == "provider":
            parser.add_argument(
                option, choices=get_args(Provider), default=field.default, help=text
            )
        else:
            convert = Path if field.name in _PATHS else type(field.default)
            parser.add_argument(option, type=convert, default=field.default, help=text)
    levels = ("debug", "info", "warning", "error")
    parser.add_argument(
        "--log-level", choices=levels, default="info", help="Least level logged. Default: info."
    )
    return parser


def _attribute_docs() -> dict[str, str]:
    """The text of each setting, from the docstring that documents it."""
    docs: dict[str, str] = {}
    name = ""
    section = (Settings.__doc__ or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    for line in section.splitlines():
        head, colon, text = line.strip().partition(": ")
        if colon and head.isidentifier() and len(line) - len(line.lstrip()) == 8:
            name = head
            docs[name] = text
        else:
            docs[name] += " " + line.strip()
    return docs


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
