"""Counts of sentences, and what a trainer should know of them."""

from collections import Counter
from collections.abc import Iterable, Iterator

import pandas as pd

from tidegate.train.data.check import PARTS, Checked
from tidegate.train.data.sentence_files import SentenceFiles
from tidegate.train.data.sentences import Sentence, SentenceSplit
from tidegate.train.data.spans import are_span_labels, spans
from tidegate.train.data.text import Problem


def check_files(files: SentenceFiles) -> Checked:
    """Reads everything that can be read and collects the rest.

    Raises:
        ValueError: a file is missing or a part has no sentence.
    """
    problems: list[Problem] = []
    split = files.read(problems.append)
    return Checked(_count(split), tuple(problems), tuple(_notices(split)))


def check_sentences(split: SentenceSplit) -> Checked:
    """Counts sentences that are in memory."""
    return Checked(_count(split), notices=tuple(_notices(split)))


def _count(split: SentenceSplit) -> pd.DataFrame:
    """Sentences, words, labels and spans of each part."""
    known = {word for one in split.train for word in one.words}
    has_spans = are_span_labels(_labels(split.train))
    rows = []
    for part in PARTS:
        sentences: tuple[Sentence, ...] = getattr(split, part)
        words = [word for one in sentences for word in one.words]
        row = {
            "part": part,
            "sentences": len(sentences),
            "words": len(words),
            "longest": max(map(len, sentences)),
            "unknown words": sum(word not in known for word in words) / len(words),
            "labels": len(set(_labels(sentences))),
            "sentence labels": len({one.label for one in sentences} - {""}),
        }
        if has_spans:
            row["spans"] = sum(len(spans(one.labels)) for one in sentences)
        rows.append(row)
    return pd.DataFrame(rows)


def _notices(split: SentenceSplit) -> Iterator[str]:
    """Unseen labels, sentences with several labels, the same sentence in two parts."""
    for part in PARTS[1:]:
        yield from _unseen(split, part)
    doubles = Counter(
        part for part in PARTS for one in getattr(split, part) if "#" in one.label.strip("#")
    )
    if doubles:
        where = ", ".join(f"{part} {doubles[part]}" for part in PARTS)
        yield f"sentence labels of two, such as a#b, each counted as a label of its own: {where}"
    yield from _repeated(split)


def _unseen(split: SentenceSplit, part: str) -> Iterator[str]:
    sentences: tuple[Sentence, ...] = getattr(split, part)
    known = set(_labels(split.train))
    yield from _unseen_lines(
        part, "label", ((label, one) for one in sentences for label in one.labels), known
    )
    known = {one.label for one in split.train}
    yield from _unseen_lines(part, "sentence label", ((one.label, one) for one in sentences), known)


def _unseen_lines(
    part: str, what: str, labels: Iterable[tuple[str, Sentence]], known: set[str]
) -> Iterator[str]:
    found = [(label, one) for label, one in labels if label not in known]
    times = Counter(label for label, _ in found)
    for label, one in dict(reversed(found)).items():
        where = f", first at {one.origin.file}, line {one.origin.line}" if one.origin else ""
        yield f"{part}: {what} {label!r} is not in the training part ({times[label]} times{where})"


def _repeated(split: SentenceSplit) -> Iterator[str]:
    seen = {one.words for one in split.train}
    for part in PARTS[1:]:
        sentences: tuple[Sentence, ...] = getattr(split, part)
        again = sum(one.words in seen for one in sentences)
        if again:
            share = again / len(sentences)
            yield f"{part}: {again} sentences ({share:.1%}) are in the training part word for word"


def _labels(sentences: Iterable[Sentence]) -> list[str]:
    return [label for one in sentences for label in one.labels]
