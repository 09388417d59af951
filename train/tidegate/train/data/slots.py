"""Slot filling with intents: folders of `seq.in`, `seq.out` and `label`.

Line i of the three files belongs together: the words, their slot labels, the
intent. Source: Goo et al., NAACL 2018 (the Slot-Gated release of ATIS and SNIPS).
"""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from tidegate.train.data.sentences import Origin, Sentence
from tidegate.train.data.text import Problem, Report, read_lines, refuse, split_words

FILES = ("seq.in", "seq.out", "label")


def read_slots(
    folder: str | Path, *, encoding: str = "utf-8", report: Report = refuse
) -> tuple[Sentence, ...]:
    """Reads the sentences of a folder: words, slot labels and the intent.

    An intent of two, such as ``atis_flight#atis_airfare``, is one label of its own.

    Args:
        folder: holds the three files.
        encoding: of all three.
        report: gets the lines that cannot be read.

    Raises:
        ValueError: a file is missing, the files have not equally many lines, or a
            line not as many slot labels as words.
    """
    return tuple(_sentences(Path(folder), encoding, report))


def _sentences(folder: Path, encoding: str, report: Report) -> Iterator[Sentence]:
    files = [folder / name for name in FILES]
    # By number: a line that is left out for its encoding must not shift the others.
    columns = [dict(read_lines(file, encoding=encoding, report=report)) for file in files]
    ends = [max(column, default=0) for column in columns]
    if len(set(ends)) > 1:
        counts = ", ".join(f"{name} {end}" for name, end in zip(FILES, ends, strict=True))
        short = files[ends.index(min(ends))]
        report(
            Problem(short, min(ends) + 1, f"the files differ in their number of lines: {counts}")
        )
    for number in range(1, min(ends) + 1):
        lines = [column.get(number) for column in columns]
        text, slots, intent = lines
        if text is None or slots is None or intent is None:
            continue
        words, labels = split_words(text), split_words(slots)
        if not words or len(words) != len(labels):
            report(Problem(files[1], number, _uneven(words, labels)))
        elif not intent.strip():
            report(Problem(files[2], number, "the intent is missing; give one label a line"))
        else:
            origin = Origin(files[0], number)
            yield Sentence(tuple(words), tuple(labels), intent.strip(), origin=origin)


def _uneven(words: list[str], labels: list[str]) -> str:
    for word, label in zip_longest(words, labels):
        if word is None:
            return f"{len(words)} words and {len(labels)} slot labels; {label!r} has no word"
        if label is None:
            return f"{len(words)} words and {len(labels)} slot labels; {word!r} has no label"
    return "the sentence is empty; remove the line from all three files"
