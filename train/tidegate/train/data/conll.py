"""Sentences in columns, as the shared tasks of CoNLL publish them.

One line per word, columns separated by spaces or tabs; a blank line ends a
sentence, and a line that begins with -DOCSTART- a document.
Source: Tjong Kim Sang and De Meulder 2003, the CoNLL-2003 shared task.
"""

from collections.abc import Iterator
from pathlib import Path

from tidegate.train.data.sentences import Origin, Sentence
from tidegate.train.data.text import Problem, Report, read_lines, refuse, split_words

DOCUMENT = "-DOCSTART-"


def read_conll(
    path: str | Path,
    *,
    word_column: int = 0,
    label_column: int = -1,
    encoding: str = "utf-8",
    report: Report = refuse,
) -> tuple[Sentence, ...]:
    """Reads the sentences of a file, one column as the words and one as their labels.

    A line that begins with ``#`` is a word like any other.

    Args:
        path: of the file; unpacked when it ends in ``.gz``.
        word_column: from 0; negative: from the last.
        label_column: likewise.
        encoding: of the file.
        report: gets the lines that cannot be read.

    Raises:
        ValueError: the file is missing, a line lacks a column, or both columns are
            the same.
    """
    if word_column == label_column:
        raise ValueError(f"word_column and label_column are both {word_column}; give two columns")
    return tuple(_sentences(Path(path), word_column, label_column, encoding, report))


def _sentences(
    file: Path, word: int, label: int, encoding: str, report: Report
) -> Iterator[Sentence]:
    needed = max(column + 1 if column >= 0 else -column for column in (word, label))
    needed = max(needed, 2)
    words, labels = list[str](), list[str]()
    first = 0
    for number, line in read_lines(file, encoding=encoding, report=report):
        fields = split_words(line)
        if not fields or fields[0] == DOCUMENT:
            if words:
                yield Sentence(tuple(words), tuple(labels), origin=Origin(file, first))
            words, labels = [], []
        elif len(fields) < needed:
            text = f"{len(fields)} columns instead of at least {needed}"
            report(Problem(file, number, f"{text}; each word needs its label beside it"))
        else:
            first = first if words else number
            words.append(fields[word])
            labels.append(fields[label])
    if words:
        yield Sentence(tuple(words), tuple(labels), origin=Origin(file, first))
