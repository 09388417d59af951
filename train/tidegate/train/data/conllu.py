"""Treebanks in the CoNLL-U format of Universal Dependencies.

One line per word, ten columns separated by tabs; a blank line ends a sentence.
Source: https://universaldependencies.org/format.html
"""

import re
from collections.abc import Iterator
from pathlib import Path

from tidegate.train.data.sentences import Origin, Sentence
from tidegate.train.data.text import Problem, Report, read_lines, refuse

COLUMNS = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")

_WORD = re.compile(r"[1-9][0-9]*")
# A multiword token's range (5-6), or an empty node (5.1).
_NO_WORD = re.compile(r"[0-9]+[-.][0-9]+")


def read_conllu(
    path: str | Path, *, column: str = "UPOS", encoding: str = "utf-8", report: Report = refuse
) -> tuple[Sentence, ...]:
    """Reads the sentences of a file, words with one column as their label.

    Empty nodes (``5.1``) are no words of the sentence and are left out. So are
    the lines of multiword tokens (``5-6``): the words 5 and 6 follow them.

    Args:
        path: of the file; unpacked when it ends in ``.gz``.
        column: "UPOS" or "XPOS", or another column's name.
        encoding: the format asks for UTF-8.
        report: gets the lines that cannot be read.

    Raises:
        ValueError: the file is missing, or a line has not ten columns or no ID.
    """
    if column not in COLUMNS:
        raise ValueError(f"column={column!r} is unknown; use one of {', '.join(COLUMNS)}")
    return tuple(_sentences(Path(path), COLUMNS.index(column), encoding, report))


def _sentences(file: Path, column: int, encoding: str, report: Report) -> Iterator[Sentence]:
    rows: list[tuple[str, str]] = []
    first = 0
    for number, line in read_lines(file, encoding=encoding, report=report):
        if not line:
            yield from _finish(rows, Origin(file, first))
            rows = []
        elif not line.startswith("#"):
            fields = line.split("\t")
            if len(fields) != len(COLUMNS):
                text = (
                    f"{len(fields)} columns instead of {len(COLUMNS)}; CoNLL-U separates ten "
                    "columns by tabs"
                )
                report(Problem(file, number, text))
            elif _WORD.fullmatch(fields[0]):
                first = first if rows else number
                rows.append((fields[1], fields[column]))
            elif not _NO_WORD.fullmatch(fields[0]):
                text = f"ID {fields[0]!r} is none of a word (5), a range (5-6), an empty node (5.1)"
                report(Problem(file, number, text))
    yield from _finish(rows, Origin(file, first))


def _finish(rows: list[tuple[str, str]], origin: Origin) -> Iterator[Sentence]:
    if rows:
        words, labels = zip(*rows, strict=True)
        yield Sentence(words, labels, origin=origin)
