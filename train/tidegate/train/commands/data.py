"""``tidegate-train data``: list the data sets, check one, fetch one."""

import argparse
import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tidegate.train.commands.command import Command
from tidegate.train.commands.printing import print_line
from tidegate.train.data.catalog import CATALOG, FOLDER_VARIABLE, find_downloads


def _add_options(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="print them", allow_abbrev=False)
    check = actions.add_parser(
        "check", help="read one, count it and name every line that is wrong", allow_abbrev=False
    )
    check.add_argument("data", help="a name that `data list` prints, or the TOML file of a recipe")
    fetch = actions.add_parser(
        "fetch", help="download one and check its sha256", allow_abbrev=False
    )
    fetch.add_argument("name", help="that `data list` prints")
    fetch.add_argument(
        "--to",
        type=Path,
        metavar="DIR",
        help=f"folder that gets the data set's own (default: {FOLDER_VARIABLE})",
    )


def _run(options: argparse.Namespace) -> int:
    if options.action == "check":
        _check(options.data)
    elif options.action == "fetch":
        _fetch(options.name, options.to)
    else:
        _list()
    return 0


def _list() -> None:
    table = Table("name", "task", "source", f"below {FOLDER_VARIABLE}")
    for dataset in CATALOG.values():
        table.add_row(dataset.name, dataset.task, dataset.source, dataset.folder or "-")
    Console().print(table)


def _check(name: str) -> None:
    """Prints counts, notices and problems.

    Raises:
        ValueError: there are problems, or nothing can be read at all.
    """
    from tidegate.train import inspect_data

    checked = inspect_data.check(name)
    table = Table(*map(str, checked.counts.columns), title=name, title_justify="left")
    for row in checked.counts.itertuples(index=False):
        table.add_row(
            *(f"{value:.1%}" if isinstance(value, float) else str(value) for value in row)
        )
    Console().print(table)
    for line in checked.notices:
        print_line(f"notice: {line}")
    for problem in checked.problems:
        print_line(f"problem: {problem}")
    if checked.problems:
        raise ValueError(f"{len(checked.problems)} problems in {name}; correct them")


def _fetch(name: str, to: Path | None) -> None:
    """Downloads the files that are not there yet."""
    from tidegate.train.data.fetch import fetch

    dataset, downloads = find_downloads(name)
    root = to or os.environ.get(FOLDER_VARIABLE)
    if not root:
        raise ValueError(
            f"--to is missing and {FOLDER_VARIABLE} is not set; give the folder that gets "
            f"{dataset.folder}/"
        )
    folder = Path(root) / (dataset.folder or "")
    print_line(f"{name}: {dataset.source}")
    written = fetch(downloads, folder)
    for path in written:
        print_line(f"wrote {path}")
    print_line(f"{folder}: {len(downloads)} files, each with the right sha256")
    if to is not None:
        print_line(f"to train on it: export {FOLDER_VARIABLE}={to.absolute()}")


DATA = Command("data", "the data sets by name", _add_options, _run)
