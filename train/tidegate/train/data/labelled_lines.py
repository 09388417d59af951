"""Sentence classification: one sentence a line, its label before it.

1 a stirring , funny and finally transporting re-imagining .
"""

from collections.abc import Iterator
from pathlib import Path

from tidegate.train.data.sentences import Origin, Sentence
from tidegate.train.data.text import Problem, Report, read_lines, refuse, split_words


def read_labelled_lines(
    path: str | Path, *, encoding: str = "utf-8", report: Report = refuse
) -> tuple[Sentence, ...]:
    """Reads sentences of words that are separated by spaces; empty lines are left out.

    Args:
        path: of the file; unpacked when it ends in ``.gz``.
        encoding: of the file.
        report: gets the lines that cannot be read.

    Raises:
        ValueError: the file is missing or a line has no words after its label.
    """
    return tuple(_sentences(Path(path), encoding, report))


def _sentences(file: Path, encoding: str, report: Report) -> Iterator[Sentence]:
    for number, line in read_lines(file, encoding=encoding, report=report):
        fields = split_words(line)
        if len(fields) == 1:
            text = f"{fields[0]!r} stands alone; give a label, a space and the words"
            report(Problem(file, number, text))
        elif fields:
            label, *words = fields
            yield Sentence(tuple(words), (), label, origin=Origin(file, number))
