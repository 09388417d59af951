"""The command ``tidegate-train``: fit, tune, evaluate, export, data."""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console

from tidegate.train.commands import COMMANDS, read_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: of the command line; None: the program's.

    Returns:
        0; 2 when the arguments, the configuration or the data do not fit; 130 when
        SIGINT stopped training, as shells count it.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    command = COMMANDS[options.command]
    try:
        if command.takes_settings:
            options.settings = read_settings(rest)
        elif rest:
            parser.error(f"unknown arguments: {' '.join(rest)}")
        return command.run(options)
    except ValueError as error:
        Console(stderr=True, soft_wrap=True).print(
            f"tidegate-train: {error}", style="red", markup=False, highlight=False
        )
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tidegate-train", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS.values():
        command.add_options(
            commands.add_parser(command.name, help=command.help, allow_abbrev=False)
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
