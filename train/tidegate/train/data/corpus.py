"""Running text for language models: three parts as the ids of words or of characters.

Dimensions: N tokens of a part.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tidegate.train.characters import UNKNOWN
from tidegate.train.data.text import read_lines, split_words

Unit = Literal["word", "character"]
UNITS = ("word", "character")
END_OF_LINE = "<eos>"
# Of a text in one file: training, validation, and the rest is the test part.
SHARES = (0.9, 0.05)

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Corpus:
    """A text in three parts, each one long sequence.

    Args:
        name: of the data set.
        unit: what a token is.
        vocabulary: vocabulary[i] is the token with the id i; vocabulary[0] is "<unk>".
        train: ids, int64 [N].
        validation: chooses the epoch.
        test: held out to the end.
    """

    name: str
    unit: Unit
    vocabulary: tuple[str, ...]
    train: Ids
    validation: Ids
    test: Ids

    def digest(self) -> str:
        """sha256 of the name, the vocabulary and all parts, in hex."""
        content = hashlib.sha256(f"{self.name}\n{self.unit}\n".encode())
        for token in self.vocabulary:
            content.update(token.encode() + b"\x00")
        for part in (self.train, self.validation, self.test):
            content.update(b"\x00" + part.astype("<i8").tobytes())
        return content.hexdigest()


def read_corpus(
    name: str,
    files: Sequence[Path],
    unit: Unit,
    *,
    min_count: int = 1,
    encoding: str = "utf-8",
) -> Corpus:
    """Reads a text; its vocabulary is that of the training part alone.

    Args:
        name: of the data set.
        files: of training, validation and test; or one, of which the first 90 % of
            the tokens are for training, the next 5 % for validation, the rest for test.
        unit: "word": what spaces and tabs part, with "<eos>" at the end of every
            line, also of an empty one. "character": every one, line feeds too.
        min_count: rarer tokens of the training part are unknown.
        encoding: of the files.

    Raises:
        ValueError: a file is missing or not in the encoding, or a part has fewer
            than two tokens, so that none has another before it.
    """
    texts = [read_tokens(path, unit, encoding=encoding) for path in files]
    parts = texts if len(texts) == 3 else _cut(texts[0])
    for part, tokens in zip(("training", "validation", "test"), parts, strict=True):
        if len(tokens) < 2:
            raise ValueError(
                f"the {part} part of {name!r} has {len(tokens)} tokens; a language model needs two "
                "at least, one to follow the other"
            )
    vocabulary = build_vocabulary(parts[0], min_count=min_count)
    ids = {token: index for index, token in enumerate(vocabulary)}
    train, validation, test = (
        np.fromiter((ids.get(token, 0) for token in part), np.int64, len(part)) for part in parts
    )
    return Corpus(name, unit, tuple(vocabulary), train, validation, test)


def read_tokens(path: str | Path, unit: Unit, *, encoding: str = "utf-8") -> list[str]:
    """The words or characters of a file, in order.

    Raises:
        ValueError: there is no such file, or it is not in the encoding.
    """
    lines = (line for _, line in read_lines(path, encoding=encoding))
    if unit == "word":
        return list(chain.from_iterable([*split_words(line), END_OF_LINE] for line in lines))
    return list(chain.from_iterable(f"{line}\n" for line in lines))


def build_vocabulary(tokens: Iterable[str], *, min_count: int = 1) -> list[str]:
    """The token list of a training part: unknown, then tokens by frequency."""
    counts = Counter(tokens)
    known = [one for one, count in counts.items() if count >= min_count and one != UNKNOWN]
    return [UNKNOWN, *sorted(known, key=lambda one: (-counts[one], one))]


def _cut(tokens: list[str]) -> list[list[str]]:
    """One text as three parts in its own order."""
    first = int(SHARES[0] * len(tokens))
    second = first + int(SHARES[1] * len(tokens))
    return [tokens[:first], tokens[first:second], tokens[second:]]
