"""Sentences with labels for their words or for the whole, vocabulary and label names."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from tidegate.train.characters import PADDING, UNKNOWN, Normalization, normalized


class Origin(NamedTuple):
    """Where a sentence begins."""

    file: Path
    line: int


@dataclass(frozen=True)
class Sentence:
    """Words with labels.

    Args:
        words: at least one.
        labels: one for each word; empty where only the whole has one.
        label: of the whole sentence, such as an intent; empty: none.
        origin: where it was read; no part of what it is.

    Raises:
        ValueError: there are no words, not as many labels as words, or no label.
    """

    words: tuple[str, ...]
    labels: tuple[str, ...]
    label: str = ""
    origin: Origin | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        only_whole = bool(self.label) and not self.labels
        if not self.words or (len(self.words) != len(self.labels) and not only_whole):
            raise ValueError(
                f"a sentence has {len(self.words)} words and {len(self.labels)} labels "
                f"({' '.join(self.words[:8])!r}); give one label for each of at least one word"
            )

    def __len__(self) -> int:
        return len(self.words)


@dataclass(frozen=True)
class SentenceSplit:
    """Sentences in three parts.

    Args:
        name: of the data set.
        train: what vocabulary and label names come from.
        validation: chooses the epoch.
        test: held out to the end.
    """

    name: str
    train: tuple[Sentence, ...]
    validation: tuple[Sentence, ...]
    test: tuple[Sentence, ...]

    def digest(self) -> str:
        """sha256 of the name and all parts, in hex."""
        content = hashlib.sha256(self.name.encode())
        for part in (self.train, self.validation, self.test):
            content.update(b"\x00")
            for sentence in part:
                for row in zip_longest(sentence.words, sentence.labels, fillvalue=""):
                    content.update("\t".join(row).encode() + b"\n")
                content.update(sentence.label.encode() + b"\n")
        return content.hexdigest()


def vocabulary(
    sentences: Iterable[Sentence], *, min_count: int = 1, lower_case: bool = True
) -> list[str]:
    """The word list of a training part: padding, unknown, then words by frequency.

    Args:
        sentences: the training part, and nothing else.
        min_count: rarer words are left out, so that the unknown word is trained.
        lower_case: count words in lower case.
    """
    counts = Counter(
        word.lower() if lower_case else word for one in sentences for word in one.words
    )
    known = [word for word, count in counts.items() if count >= min_count]
    return [PADDING, UNKNOWN, *sorted(known, key=lambda word: (-counts[word], word))]


def character_list(
    sentences: Iterable[Sentence], *, min_count: int = 1, normalization: Normalization = ""
) -> list[str]:
    """The characters of a training part: padding, unknown, then those of its words.

    Args:
        sentences: the training part, and nothing else.
        min_count: rarer characters are left out, so that the unknown one is trained.
        normalization: form of Unicode that words are brought into first.
    """
    counts = Counter(
        character
        for one in sentences
        for word in one.words
        for character in normalized(word, normalization)
    )
    return [PADDING, UNKNOWN, *sorted(one for one, count in counts.items() if count >= min_count)]


def label_names(sentences: Iterable[Sentence]) -> list[str]:
    """The labels of a training part, in alphabetical order."""
    return sorted({label for one in sentences for label in one.labels})


def sentence_label_names(sentences: Iterable[Sentence]) -> list[str]:
    """The labels of whole sentences of a training part, in alphabetical order."""
    return sorted({one.label for one in sentences} - {""})


def ambiguous_words(sentences: Sequence[Sentence], *, lower_case: bool = True) -> set[str]:
    """The words of a training part that occur with more than one label."""
    seen: dict[str, set[str]] = {}
    for one in sentences:
        for word, label in zip(one.words, one.labels, strict=bool(one.labels)):
            seen.setdefault(word.lower() if lower_case else word, set()).add(label)
    return {word for word, labels in seen.items() if len(labels) > 1}
