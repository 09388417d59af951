"""A language model: how probable each token is to come next, at every step.

Dimensions: T time, B batch, E embedding, H hidden, V tokens of the vocabulary.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tidegate.train.arguments import check_choice, check_positive
from tidegate.train.characters import UNKNOWN
from tidegate.train.data.corpus import UNITS, Unit
from tidegate.train.recurrent import Recurrent
from tidegate.train.recurrent_inputs import as_torch_state, state_tensors

States = tuple[Tensor, ...]

BIDIRECTIONAL = (
    "a network that reads backwards has seen the very token it is to predict, so that its "
    "perplexity means nothing; set bidirectional = false"
)


class Predicted(NamedTuple):
    """What a forward pass gives.

    Attributes:
        logits: [B, T, V], of the token after each one; without meaning in padding.
        states: h (and c), each [L, B, H], after each row's last token.
        hidden: [B, T, H], the network's output, which the activation
            regularizers look at.
    """

    logits: Tensor
    states: States
    hidden: Tensor


class LanguageModel(nn.Module):
    """Embeddings, a causal recurrent network and a softmax over the vocabulary.

    Args:
        recurrent: reads E features in one direction, batch first.
        vocabulary: the tokens; vocabulary[0] is "<unk>".
        embedding_size: E.
        unit: what a token is, "word" or "character".
        tied: the rows of the softmax are the embeddings themselves (Press and Wolf
            2017, arXiv 1608.05859; Inan et al. 2017, arXiv 1611.01462). Where E is not
            H, a matrix without bias takes the hidden state to E first.
        embedding_std: standard deviation of the embeddings' first values. Tied ones
            are rows of the softmax too and should begin small.

    Raises:
        ValueError: the network reads backwards, or an argument does not fit.
    """

    def __init__(
        self,
        recurrent: Recurrent,
        *,
        vocabulary: Sequence[str],
        embedding_size: int,
        unit: Unit = "word",
        tied: bool = True,
        embedding_std: float = 0.1,
    ) -> None:
        super().__init__()
        check_positive("embedding_size", embedding_size)
        check_choice("unit", unit, UNITS)
        if not embedding_std > 0:
            raise ValueError(f"embedding_std={embedding_std!r} is out of range; give one above 0")
        _check_network(recurrent, embedding_size)
        _check_vocabulary(vocabulary)
        self.recurrent = recurrent
        self.vocabulary = tuple(vocabulary)
        self.unit: Unit = unit
        self.tied = tied
        self.embedding = nn.Embedding(len(vocabulary), embedding_size)
        with torch.no_grad():
            self.embedding.weight.mul_(embedding_std)
        size = recurrent.output_size
        project = tied and size != embedding_size
        self.projection = nn.Linear(size, embedding_size, bias=False) if project else None
        self.weight = None if tied else nn.Parameter(torch.empty(len(vocabulary), size))
        if self.weight is not None:
            nn.init.uniform_(self.weight, -(size**-0.5), size**-0.5)
        self.bias = nn.Parameter(torch.zeros(len(vocabulary)))
        self._ids = {token: index for index, token in enumerate(vocabulary)}

    def encode(self, tokens: Sequence[str]) -> list[int]:
        """The id of each token; unknown ones are 0."""
        return [self._ids.get(token, 0) for token in tokens]

    def initial_state(self, batch: int) -> States:
        """The state before the first token of each row: zeros."""
        shape = (self.recurrent.num_layers, batch, self.recurrent.hidden_size)
        return tuple(
            self.bias.new_zeros(shape) for _ in range(2 if self.recurrent.cell == "lstm" else 1)
        )

    def forward(
        self,
        tokens: Tensor,
        lengths: Tensor | None = None,
        states: States | None = None,
        *,
        sequences: Tensor | None = None,
    ) -> Predicted:
        """Scores every token of the vocabulary as the next one, at every step.

        Args:
            tokens: ids, int64 [B, T].
            lengths: integers [B], each from 1 to T; None: every row is full.
            states: from :meth:`initial_state` or an earlier call; None: initial.
            sequences: as for :meth:`Recurrent.forward`.
        """
        read = self.recurrent.drop_words(self.embedding(tokens), tokens)
        state = None if states is None else as_torch_state(states)
        hidden, new = self.recurrent(read, lengths, state, sequences=sequences)
        return Predicted(self._logits(hidden), state_tensors(new), hidden)

    def _logits(self, hidden: Tensor) -> Tensor:
        if self.projection is not None:
            hidden = self.projection(hidden)
        weight = self.embedding.weight if self.weight is None else self.weight
        return F.linear(hidden, weight, self.bias)

    def example(self, batch: int, time: int, generator: torch.Generator) -> Tensor:
        """Draws token ids, [batch, time]."""
        return torch.randint(0, len(self.vocabulary), (batch, time), generator=generator)


def _check_network(recurrent: Recurrent, embedding_size: int) -> None:
    if recurrent.bidirectional:
        raise ValueError(f"recurrent.bidirectional=True in a language model: {BIDIRECTIONAL}")
    if recurrent.input_size != embedding_size or not recurrent.batch_first:
        raise ValueError(
            f"recurrent.input_size={recurrent.input_size}, batch_first={recurrent.batch_first}; "
            f"a language model with embedding_size={embedding_size} takes {embedding_size} and True"
        )


def _check_vocabulary(vocabulary: Sequence[str]) -> None:
    if tuple(vocabulary[:1]) != (UNKNOWN,) or len(set(vocabulary)) != len(vocabulary):
        raise ValueError(
            f"vocabulary begins with {list(vocabulary[:1])}; give {UNKNOWN!r} first and each token "
            "once"
        )
