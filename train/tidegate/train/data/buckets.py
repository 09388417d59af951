"""Padded batches of sentences of similar length.

Dimensions: B sentences of a batch, T words of its longest.
"""

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# torch.nn.functional.cross_entropy's own default for targets that do not count.
IGNORED = -100


class Batch(NamedTuple):
    """One padded batch.

    Attributes:
        tokens: int64 [B, T]; 0 in padding.
        labels: int64 [B, T]; -100 in padding and for a label unseen in training.
        lengths: int64 [B].
    """

    tokens: Tensor
    labels: Tensor
    lengths: Tensor


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


def pad(tokens: Sequence[Sequence[int]], labels: Sequence[Sequence[int]]) -> Batch:
    """Puts encoded sentences into one padded batch."""
    lengths = torch.tensor([len(one) for one in tokens])
    shape = (len(tokens), int(lengths.max()))
    batch = Batch(
        torch.zeros(shape, dtype=torch.int64),
        torch.full(shape, IGNORED, dtype=torch.int64),
        lengths,
    )
    for row, (sentence, answer) in enumerate(zip(tokens, labels, strict=True)):
        batch.tokens[row, : len(sentence)] = torch.tensor(sentence)
        batch.labels[row, : len(answer)] = torch.tensor(answer)
    return batch


def batches(
    tokens: Sequence[Sequence[int]],
    labels: Sequence[Sequence[int]],
    budget: int,
    *,
    seed: int | None = None,
) -> Iterator[tuple[list[int], Batch]]:
    """Every sentence once, in padded batches.

    Args:
        tokens: ids of each sentence's words.
        labels: numbers of each sentence's labels; -100 does not count.
        budget: most tokens of a batch, padding included.
        seed: shuffles; None: in the order of length.

    Yields:
        The sentence numbers of a batch, and the batch.
    """
    for rows in buckets([len(one) for one in tokens], budget, seed=seed):
        yield rows, pad([tokens[row] for row in rows], [labels[row] for row in rows])
