"""Pretrained word vectors from a text file, as GloVe and fastText write them.

    the 0.418 0.24968 -0.41242
    of 0.70853 0.57088 -0.4716

fastText begins with a line of two numbers, how many words there are and how wide.

Dimensions: V words wanted, E width.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tidegate.train.data.text import Problem, read_lines, refuse


class Vectors(NamedTuple):
    """What a file has of the words wanted.

    Attributes:
        values: float32 [V, E]; without meaning where a word was not found.
        found: bool [V].
    """

    values: NDArray[np.float32]
    found: NDArray[np.bool_]


def read_vectors(
    path: str | Path, words: Sequence[str], size: int, *, encoding: str = "utf-8"
) -> Vectors:
    """Reads the vectors of some words; the others are passed over.

    A word is looked up as it is written. It may hold spaces: the last E fields are
    its numbers.

    Args:
        path: of the file; unpacked when it ends in ``.gz``.
        words: that are wanted, each once.
        size: E.
        encoding: of the file.

    Raises:
        ValueError: there is no such file, its vectors have another width, a line has
            too few numbers or one that is no finite number, a word wanted is there
            twice, or there are not as many words as the first line says; names the
            line.
    """
    file = Path(path)
    places = {word: index for index, word in enumerate(words)}
    values = np.zeros((len(words), size), np.float32)
    lines = np.zeros(len(words), np.int64)
    for number, word, fields in _rows(file, size, encoding):
        index = places.get(word)
        if index is None:
            continue
        if lines[index]:
            refuse(Problem(file, number, f"{word!r} is in line {lines[index]} too; keep one"))
        values[index] = _numbers(file, number, fields)
        lines[index] = number
    return Vectors(values, lines > 0)


def _rows(file: Path, size: int, encoding: str) -> Iterator[tuple[int, str, list[str]]]:
    """Number of the line, word and fields of numbers, line after line."""
    announced: int | None = None
    count = 0
    for number, line in read_lines(file, encoding=encoding):
        fields = line.rstrip(" ").split(" ")
        if number == 1 and len(fields) == 2 and all(field.isdecimal() for field in fields):
            announced = int(fields[0])
            _check_width(file, number, int(fields[1]), size)
            continue
        if count == 0:
            _check_width(file, number, len(fields) - 1, size)
        if len(fields) <= size:
            refuse(
                Problem(file, number, f"{len(fields) - 1} numbers after the word, wanted {size}")
            )
        count += 1
        yield number, " ".join(fields[:-size]), fields[-size:]
    if announced is not None and count != announced:
        raise ValueError(
            f"{file} has {count} words and its first line says {announced}; it is not whole"
        )


def _check_width(file: Path, number: int, found: int, size: int) -> None:
    if found != size:
        refuse(
            Problem(
                file,
                number,
                f"vectors of {found} numbers and embedding_size={size}; set model.embedding_size = "
                f"{found}, or take another file",
            )
        )


def _numbers(file: Path, number: int, fields: list[str]) -> NDArray[np.float32]:
    try:
        values = np.array(fields, np.float32)
    except ValueError as error:
        refuse(Problem(file, number, f"no vector: {error}"))
    if not np.isfinite(values).all():
        refuse(Problem(file, number, "a number is not finite"))
    return values
