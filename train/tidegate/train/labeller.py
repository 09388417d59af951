"""A labeller: one label for each word of a sentence.

Dimensions: T time (words), B batch (sentences), E embedding, N labels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tidegate.train.arguments import check_positive
from tidegate.train.recurrent import Recurrent

PADDING = "<pad>"
UNKNOWN = "<unk>"


class Labeller(nn.Module):
    """Word embeddings, a recurrent network and a softmax over labels.

    Args:
        recurrent: reads E features, batch first; in one direction or two.
        words: the vocabulary; words[0] is "<pad>" and words[1] is "<unk>".
        label_names: names of the N labels.
        embedding_size: E.
        lower_case: whether words are looked up in lower case.

    Raises:
        ValueError: the vocabulary, the labels or the sizes do not fit.
    """

    def __init__(
        self,
        recurrent: Recurrent,
        *,
        words: Sequence[str],
        label_names: Sequence[str],
        embedding_size: int,
        lower_case: bool = True,
    ) -> None:
        super().__init__()
        check_positive("embedding_size", embedding_size)
        if tuple(words[:2]) != (PADDING, UNKNOWN) or len(set(words)) != len(words):
            raise ValueError(
                f"words begins with {list(words[:2])}; give {[PADDING, UNKNOWN]} first and "
                "each word once"
            )
        if not label_names or len(set(label_names)) != len(label_names):
            raise ValueError(f"label_names={list(label_names)}; give at least one, each once")
        if recurrent.input_size != embedding_size or not recurrent.batch_first:
            raise ValueError(
                f"recurrent.input_size={recurrent.input_size}, batch_first="
                f"{recurrent.batch_first}; a labeller with embedding_size={embedding_size} takes "
                f"{embedding_size} and True"
            )
        self.recurrent = recurrent
        self.words = tuple(words)
        self.label_names = tuple(label_names)
        self.lower_case = lower_case
        self.embedding = nn.Embedding(len(words), embedding_size, padding_idx=0)
        self.head = nn.Linear(recurrent.output_size, len(label_names))
        self._ids = {word: index for index, word in enumerate(words)}

    def encode(self, sentence: Sequence[str]) -> list[int]:
        """The token id of each word; unknown words are 1."""
        unknown = self._ids[UNKNOWN]
        return [
            self._ids.get(word.lower() if self.lower_case else word, unknown) for word in sentence
        ]

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Scores every label for every word.

        Args:
            tokens: token ids, int64 [B, T].
            lengths: integers [B], each from 1 to T; None: every row is full.

        Returns:
            Logits [B, T, N], without meaning in padding.
        """
        hidden, _ = self.recurrent(
            self.recurrent.drop_words(self.embedding(tokens), tokens), lengths
        )
        logits: Tensor = self.head(hidden)
        return logits

    def example(self, batch: int, time: int, generator: torch.Generator) -> Tensor:
        """Draws token ids, [batch, time]."""
        return torch.randint(1, len(self.words), (batch, time), generator=generator)
