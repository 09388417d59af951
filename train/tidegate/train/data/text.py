"""Lines of text files, and problems that name the file and the line."""

import codecs
import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn


class Problem(NamedTuple):
    """What is wrong in one line of a file, lines counted from 1."""

    file: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.text}"


# Readers hand each problem to one of these and leave the line out.
Report = Callable[[Problem], None]


def refuse(problem: Problem) -> NoReturn:
    """The usual report: reading ends at the first problem.

    Raises:
        ValueError: always.
    """
    raise ValueError(str(problem))


def read_lines(
    path: str | Path, *, encoding: str = "utf-8", report: Report = refuse
) -> Iterator[tuple[int, str]]:
    """Reads the lines of a file, without their ends.

    Only a line feed (or CR LF) ends a line: other characters that Unicode counts
    as line breaks occur inside words.

    Args:
        path: of the file; unpacked when it ends in ``.gz``.
        encoding: Python's name of it; a byte order mark of UTF-8 is left out.
        report: gets the lines that are not in the encoding.

    Yields:
        Number of the line, from 1, and its text.

    Raises:
        ValueError: there is no such file or encoding.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"path={str(file)!r} is no file; give the path of a text file")
    _check_encoding(encoding)
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            content = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
            try:
                yield number, content.decode(encoding).rstrip("\r\n")
            except UnicodeDecodeError as error:
                byte = content[error.start]
                report(
                    Problem(
                        file,
                        number,
                        f"byte 0x{byte:02x} at column {error.start + 1} is not {encoding}; give "
                        "the file's own encoding, such as dataset.encoding = 'latin-1'",
                    )
                )


def split_words(line: str) -> list[str]:
    """The words of a line, separated by spaces or tabs.

    Not ``str.split()``: a no-break space belongs to its word.
    """
    return [word for word in re.split(r"[ \t]+", line) if word]


def _check_encoding(encoding: str) -> None:
    try:
        keeps_line_feeds = "\n".encode(encoding) == b"\n"
    except LookupError as error:
        raise ValueError(
            f"encoding={encoding!r} is unknown; use 'utf-8', 'latin-1' or another of Python's names"
        ) from error
    if not keeps_line_feeds:
        raise ValueError(
            f"encoding={encoding!r} does not write a line feed as one byte; convert the file to "
            "UTF-8"
        )
