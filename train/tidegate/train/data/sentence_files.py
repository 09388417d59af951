"""Sentences of three parts in files, whatever their format."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from tidegate.train.arguments import check_choice
from tidegate.train.data.conll import read_conll
from tidegate.train.data.conllu import read_conllu
from tidegate.train.data.labelled_lines import read_labelled_lines
from tidegate.train.data.sentences import Sentence, SentenceSplit
from tidegate.train.data.slots import read_slots
from tidegate.train.data.spans import Scheme, convert
from tidegate.train.data.text import Problem, Report, refuse


class Layout(NamedTuple):
    """How the lines of a file are read.

    Attributes:
        encoding: of the files.
        word_column: of ``conll``, from 0; negative: from the last.
        label_column: a number likewise, or a column's name for ``conllu``; empty:
            the last, or UPOS.
        scheme: what the labels of spans are turned into.
    """

    encoding: str = "utf-8"
    word_column: int = 0
    label_column: str = ""
    scheme: Scheme = "as_is"


DEFAULT_LAYOUT = Layout()


@dataclass(frozen=True)
class SentenceFiles:
    """Where the three parts are, and how they are read.

    Args:
        name: of the data set.
        format: "conllu", "conll", "slots" or "lines".
        parts: files of training, validation and test; folders for "slots".
        layout: of the lines.

    Raises:
        ValueError: the format is unknown.
    """

    name: str
    format: str
    parts: tuple[Path, ...]
    layout: Layout = DEFAULT_LAYOUT

    def __post_init__(self) -> None:
        check_choice("format", self.format, FORMATS)

    def read(self, report: Report = refuse) -> SentenceSplit:
        """Reads the three parts.

        Args:
            report: gets the lines that cannot be read.

        Raises:
            ValueError: a file is missing or a part has no sentence.
        """
        train, validation, test = (self._read(path, report) for path in self.parts)
        return SentenceSplit(self.name, train, validation, test)

    def _read(self, path: Path, report: Report) -> tuple[Sentence, ...]:
        sentences = FORMATS[self.format](path, self.layout, report)
        if not sentences:
            raise ValueError(f"{path} holds no sentence in the format {self.format!r}")
        return tuple(_converted(one, self.layout.scheme, report) for one in sentences)


def _converted(sentence: Sentence, scheme: Scheme, report: Report) -> Sentence:
    if scheme == "as_is":
        return sentence
    try:
        return replace(sentence, labels=convert(sentence.labels, scheme))
    except ValueError as error:
        if sentence.origin is None:
            raise
        report(Problem(*sentence.origin, f"in this sentence, {error}"))
        return sentence


def _conllu(path: Path, layout: Layout, report: Report) -> tuple[Sentence, ...]:
    column = layout.label_column or "UPOS"
    return read_conllu(path, column=column, encoding=layout.encoding, report=report)


def _conll(path: Path, layout: Layout, report: Report) -> tuple[Sentence, ...]:
    try:
        column = int(layout.label_column or -1)
    except ValueError as error:
        raise ValueError(
            f"label_column={layout.label_column!r} is no number; columns of 'conll' have no names"
        ) from error
    return read_conll(
        path,
        word_column=layout.word_column,
        label_column=column,
        encoding=layout.encoding,
        report=report,
    )


def _slots(path: Path, layout: Layout, report: Report) -> tuple[Sentence, ...]:
    return read_slots(path, encoding=layout.encoding, report=report)


def _lines(path: Path, layout: Layout, report: Report) -> tuple[Sentence, ...]:
    return read_labelled_lines(path, encoding=layout.encoding, report=report)


FORMATS: dict[str, Callable[[Path, Layout, Report], tuple[Sentence, ...]]] = {
    "conllu": _conllu,
    "conll": _conll,
    "slots": _slots,
    "lines": _lines,
}
