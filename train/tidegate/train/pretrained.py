"""Word embeddings that begin as pretrained vectors."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from tidegate.train.data.vectors import read_vectors


def use_vectors(
    embedding: nn.Embedding,
    words: Sequence[str],
    path: str | Path,
    *,
    freeze: bool = False,
    encoding: str = "utf-8",
) -> float:
    """Puts the vectors of a file in the place of the first values of embeddings.

    Words that the file lacks keep their own.

    Args:
        embedding: one row for each word.
        words: the vocabulary of the training part.
        path: of a file of GloVe or fastText, in text.
        freeze: whether training leaves all rows as they then are.
        encoding: of the file.

    Returns:
        The share of the words that the file has.

    Raises:
        ValueError: the file cannot be read, or has none of the words.
    """
    vectors = read_vectors(path, words, embedding.embedding_dim, encoding=encoding)
    if not vectors.found.any():
        raise ValueError(
            f"vectors={str(path)!r} has none of the {len(words)} words of the training part; are "
            "they in lower case there and not here, or of another language?"
        )
    found = torch.from_numpy(vectors.found)
    with torch.no_grad():
        embedding.weight[found] = torch.from_numpy(vectors.values)[found].to(embedding.weight)
    embedding.weight.requires_grad_(not freeze)
    return float(vectors.found.mean())
