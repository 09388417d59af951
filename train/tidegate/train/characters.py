"""Reads a word by its characters, so that unknown words are not all the same.

Dimensions: B batch (sentences), T time (words), C characters of the longest
word, N distinct words, E embedding, H hidden, D directions.
"""

import unicodedata
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from tidegate.train.arguments import check_choice, check_positive
from tidegate.train.recurrent import Recurrent

PADDING = "<pad>"
UNKNOWN = "<unk>"

Normalization = Literal["", "NFC", "NFD", "NFKC", "NFKD"]
NORMALIZATIONS = ("", "NFC", "NFD", "NFKC", "NFKD")


class CharacterEncoder(nn.Module):
    """A vector for each word: the last states of a network over its characters.

    Of a word longer than ``max_characters`` only the first are read, in training
    and in inference, which bounds the work for any input.

    Source: Ling et al. 2015, "Finding Function in Form", arXiv 1508.02096; Lample
    et al. 2016, "Neural Architectures for Named Entity Recognition", arXiv 1603.01360.

    Args:
        recurrent: reads E features, batch first; in one direction or two concatenated.
        characters: characters[0] is "<pad>" and characters[1] is "<unk>"; then one
            character each.
        embedding_size: E.
        max_characters: most characters of a word.
        normalization: Unicode's form that words are brought into first; "NFD" takes
            Korean syllables apart into their letters. Empty: none.

    Raises:
        ValueError: an argument does not fit.
    """

    def __init__(
        self,
        recurrent: Recurrent,
        *,
        characters: Sequence[str],
        embedding_size: int,
        max_characters: int = 24,
        normalization: Normalization = "",
    ) -> None:
        super().__init__()
        check_positive("embedding_size", embedding_size)
        check_positive("max_characters", max_characters)
        check_choice("normalization", normalization, NORMALIZATIONS)
        _check_characters(characters)
        if recurrent.bidirectional and recurrent.merge != "concat":
            raise ValueError(
                f"recurrent.merge={recurrent.merge!r}: the last states of two directions are "
                "concatenated; give 'concat'"
            )
        if recurrent.input_size != embedding_size or not recurrent.batch_first:
            raise ValueError(
                f"recurrent.input_size={recurrent.input_size}, batch_first="
                f"{recurrent.batch_first}; characters with embedding_size={embedding_size} take "
                f"{embedding_size} and True"
            )
        self.recurrent = recurrent
        self.characters = tuple(characters)
        self.max_characters = max_characters
        self.normalization: Normalization = normalization
        self.embedding = nn.Embedding(len(characters), embedding_size, padding_idx=0)
        self._ids = {character: index for index, character in enumerate(characters)}

    @property
    def output_size(self) -> int:
        """D * H."""
        return self.recurrent.num_directions * self.recurrent.hidden_size

    def encode(self, word: str) -> list[int]:
        """The ids of a word's characters, at most ``max_characters``; unknown ones are 1."""
        characters = normalized(word, self.normalization)[: self.max_characters]
        return [self._ids.get(character, 1) for character in characters]

    def forward(self, chars: Tensor) -> Tensor:
        """Reads every distinct word once.

        Args:
            chars: character ids, int64 [B, T, C]; 0 after a word's end.

        Returns:
            [B, T, D * H].
        """
        distinct, places = torch.unique(chars.flatten(0, 1), dim=0, return_inverse=True)
        # A word of no character, such as padding, reads one padding character.
        lengths = (distinct > 0).sum(dim=1).clamp(min=1)
        embedded = self.recurrent.drop_words(self.embedding(distinct), distinct)
        _, state = self.recurrent(embedded, lengths)
        h = state if isinstance(state, Tensor) else state[0]
        last = h[-self.recurrent.num_directions :].transpose(0, 1).flatten(1)
        return last[places].view(*chars.shape[:2], -1)

    def example(self, batch: int, time: int, generator: torch.Generator) -> Tensor:
        """Draws character ids, [batch, time, characters], some words without any."""
        longest = self.max_characters
        ids = torch.randint(1, len(self.characters), (batch, time, longest), generator=generator)
        lengths = torch.randint(0, longest + 1, (batch, time, 1), generator=generator)
        return ids * (torch.arange(longest) < lengths)


def normalized(word: str, normalization: Normalization) -> str:
    """The word in a normal form of Unicode; as it is, if none is named."""
    return unicodedata.normalize(normalization, word) if normalization else word


def _check_characters(characters: Sequence[str]) -> None:
    if tuple(characters[:2]) != (PADDING, UNKNOWN) or len(set(characters)) != len(characters):
        raise ValueError(
            f"characters begins with {list(characters[:2])}; give {[PADDING, UNKNOWN]} first and "
            "each character once"
        )
    for character in characters[2:]:
        if len(character) != 1:
            raise ValueError(f"characters holds {character!r}; give single characters")
