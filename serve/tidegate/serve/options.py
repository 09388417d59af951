"""The command line of the server, made from its settings."""

from __future__ import annotations

import argparse
from dataclasses import Field, fields
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from tidegate.serve import logs
from tidegate.serve.settings import TOPICS, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def read_options(arguments: Sequence[str]) -> Settings:
    """Reads a command line, and sends the logs of this process to stderr as it says.

    Raises:
        ValueError: A value is out of range.
    """
    options = vars(build_parser().parse_args(arguments))
    logs.configure(options.pop("log_level"))
    return Settings(**options)


def build_parser() -> argparse.ArgumentParser:
    """The command line: an option for each setting, and the level of the logs."""
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


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Adds an option for each field of `Settings`, by topic, with its text as help."""
    for topic in TOPICS:
        title = (topic.__doc__ or "").partition("\n")[0].rstrip(".").lower()
        group = parser.add_argument_group(title)
        types, texts = get_type_hints(topic), attribute_docs(topic)
        for field in fields(topic):
            option = "--" + field.name.replace("_", "-")
            group.add_argument(option, **_arguments(field, types[field.name], texts))


def _arguments(field: Field[Any], kind: object, texts: Mapping[str, str]) -> dict[str, Any]:
    text = texts[field.name]
    if kind is bool:
        return {"action": "store_true", "help": text}
    shown = f"{text} Default: {'none' if field.default is None else field.default}."
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind), "default": field.default, "help": shown}
    # An optional value is of the one type beside None.
    convert = next((one for one in get_args(kind) if one is not type(None)), kind)
    return {"type": convert, "default": field.default, "help": shown}


def attribute_docs(topic: type) -> dict[str, str]:
    """The text of each attribute in a class's docstring, on one line."""
    docs: dict[str, str] = {}
    name = ""
    section = (topic.__doc__ or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    for line in section.splitlines():
        head, colon, text = line.strip().partition(": ")
        if colon and head.isidentifier() and len(line) - len(line.lstrip()) == 8:
            name = head
            docs[name] = text
        elif line.strip():
            docs[name] += " " + line.strip()
    return docs
