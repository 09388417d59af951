"""What a command is, and how those that run a recipe are told of it."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidegate.train.output import DEFAULT_OUTPUT


@dataclass(frozen=True)
class Command:
    """One command of ``tidegate-train``.

    Attributes:
        name: after ``tidegate-train``.
        help: one line.
        add_options: to the command's own parser.
        run: does it and prints what came of it; returns the exit code.
        takes_settings: whether ``--section.key VALUE`` may follow; ``run`` then finds
            them in ``options.settings``.
    """

    name: str
    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    takes_settings: bool = False


def add_recipe_options(parser: argparse.ArgumentParser, *, config: str, output: str) -> None:
    """Adds the recipe and the folder for what comes of it.

    Args:
        parser: of the command.
        config: which recipe, for the help.
        output: what the folder gets, likewise.
    """
    parser.add_argument("config", type=Path, help=config)
    parser.add_argument(
        "--output",
        type=Path,
        default=DEFAULT_OUTPUT,
        help=f"folder that gets {output} (default: %(default)s)",
    )


def read_settings(arguments: Sequence[str]) -> dict[str, str]:
    """``--a.b 1 --c=2`` as ``{"a.b": "1", "c": "2"}``."""
    overrides: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not name.startswith("--"):
            raise ValueError(f"{name!r} stands alone; give settings as --section.key VALUE")
        if not equals:
            if not rest:
                raise ValueError(f"{name} has no value; give settings as --section.key VALUE")
            value = rest.pop(0)
        overrides[name.removeprefix("--")] = value
    return overrides
