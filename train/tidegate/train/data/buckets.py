"""Padded batches of sentences of similar length.

Dimensions: B sentences of a batch, T words of its longest, C characters of its
longest word.
"""

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# torch.nn.functional.cross_entropy's own default for targets that do not count.
IGNORED = -100


class Encoded(NamedTuple):
    """One sentence in numbers.

    Attributes:
        tokens: ids of its words.
        labels: numbers of their labels, -100 where one does not count; or none.
        characters: ids of each word's characters; or none.
        sentence_label: number of the label of the whole; -100: it does not count.
    """

    tokens: Sequence[int]
    labels: Sequence[int] = ()
    characters: Sequence[Sequence[int]] = ()
    sentence_label: int = IGNORED


class Batch(NamedTuple):
    """One padded batch.

    Attributes:
        tokens: int64 [B, T]; 0 in padding.
        labels: int64 [B, T]; -100 in padding and for a label unseen in training.
        lengths: int64 [B].
        sentence_labels: int64 [B]; -100 for one that does not count.
        chars: int64 [B, T, C]; 0 after a word's end and in padding. None: without
            characters.
    """

    tokens: Tensor
    labels: Tensor
    lengths: Tensor
    sentence_labels: Tensor
    chars: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        return Batch(*(one if one is None else one.to(device) for one in self))  # type: ignore[arg-type] # only chars may be None


def buckets(lengths: Sequence[int], tokens: int, *, seed: int | None = None) -> list[list[int]]:
    """Groups sentences by length, so that little of a batch is padding.

    Args:
        lengths: words of each sentence.
        tokens: most tokens of a batch, padding included; a longer sentence is
            a batch of its own.
        seed: shuffles sentences of equal length, and the batches; None: neither.

    Returns:
        Sentence numbers of each batch; each sentence is in exactly one.
    """
    order = list(range(len(lengths)))
    draw = random.Random(seed)  # noqa: S311 - nothing here is secret
    if seed is not None:
        draw.shuffle(order)
    order.sort(key=lambda index: lengths[index])
    batches: list[list[int]] = []
    for index in order:
        # Ascending: this sentence would be the batch's longest.
        if batches and (len(batches[-1]) + 1) * lengths[index] <= tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    if seed is not None:
        draw.shuffle(batches)
    return batches


def pad(sentences: Sequence[Encoded]) -> Batch:
    """Puts encoded sentences into one padded batch."""
    lengths = torch.tensor([len(one.tokens) for one in sentences])
    shape = (len(sentences), int(lengths.max()))
    tokens = np.zeros(shape, np.int64)
    labels = np.full(shape, IGNORED, np.int64)
    for row, one in enumerate(sentences):
        tokens[row, : len(one.tokens)] = one.tokens
        labels[row, : len(one.labels)] = one.labels
    chars = _padded_characters(sentences, shape) if sentences[0].characters else None
    whole = torch.tensor([one.sentence_label for one in sentences])
    return Batch(torch.from_numpy(tokens), torch.from_numpy(labels), lengths, whole, chars)


def batches(
    sentences: Sequence[Encoded], budget: int, *, seed: int | None = None
) -> Iterator[tuple[list[int], Batch]]:
    """Every sentence once, in padded batches.

    Args:
        sentences: in numbers.
        budget: most tokens of a batch, padding included.
        seed: shuffles; None: in the order of length.

    Yields:
        The sentence numbers of a batch, and the batch.
    """
    for rows in buckets([len(one.tokens) for one in sentences], budget, seed=seed):
        yield rows, pad([sentences[row] for row in rows])


def _padded_characters(sentences: Sequence[Encoded], shape: tuple[int, int]) -> Tensor:
    # A word may have no character; the axis may not.
    longest = max(1, *(len(word) for one in sentences for word in one.characters))
    chars = np.zeros((*shape, longest), np.int64)
    for row, one in enumerate(sentences):
        for column, word in enumerate(one.characters):
            chars[row, column, : len(word)] = word
    return torch.from_numpy(chars)
