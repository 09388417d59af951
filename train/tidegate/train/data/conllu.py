"""Treebanks in the CoNLL-U format of Universal Dependencies.

One line per word, ten columns separated by tabs; a blank line ends a sentence.
Source: https://universaldependencies.org/format.html
"""

import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path

from tidegate.train.data.sentences import Sentence

COLUMNS = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")


def read_conllu(path: str | Path, *, column: str = "UPOS") -> tuple[Sentence, ...]:
    """Reads the sentences of a file, words with one column as their label.

    Empty nodes (``5.1``) are no words of the sentence and are left out. So are
    the lines of multiword tokens (``5-6``): the words 5 and 6 follow them.

    Args:
        path: of the file; unpacked when it ends in ``.gz``.
        column: "UPOS" or "XPOS", or another column's name.

    Raises:
        ValueError: the file is missing or a line has not ten columns.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"path={str(file)!r} is no file; give the path of a CoNLL-U file")
    if column not in COLUMNS:
        raise ValueError(f"column={column!r} is unknown; use one of {', '.join(COLUMNS)}")
    if file.suffix == ".gz":
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            return tuple(_sentences(lines, COLUMNS.index(column), file))
    with file.open(encoding="utf-8") as lines:
        return tuple(_sentences(lines, COLUMNS.index(column), file))


def _sentences(lines: Iterable[str], column: int, file: Path) -> Iterator[Sentence]:
    rows: list[tuple[str, str]] = []
    for number, raw in enumerate(lines, start=1):
        line = raw.rstrip("\r\n")
        if not line:
            yield from _finish(rows)
            rows = []
        elif not line.startswith("#"):
            fields = line.split("\t")
            if len(fields) != len(COLUMNS):
                raise ValueError(
                    f"{file}, line {number}: {len(fields)} columns instead of {len(COLUMNS)}; "
                    "CoNLL-U separates ten columns by tabs"
                )
            if fields[0].isdigit():
                rows.append((fields[1], fields[column]))
    yield from _finish(rows)


def _finish(rows: list[tuple[str, str]]) -> Iterator[Sentence]:
    if rows:
        words, labels = zip(*rows, strict=True)
        yield Sentence(words, labels)
