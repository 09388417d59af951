"""A labeller: labels for the words of a sentence, for the whole sentence, or for both.

Dimensions: T time (words), B batch (sentences), C characters of the longest
word, E embedding, W width of a word's characters, N labels of words, M labels of
sentences.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from tidegate.train.arguments import check_choice, check_positive
from tidegate.train.characters import PADDING, UNKNOWN, CharacterEncoder
from tidegate.train.crf import LinearChainCRF
from tidegate.train.losses import label_loss
from tidegate.train.pooling import PoolingName, build_pooling
from tidegate.train.recurrent import Recurrent

Decoder = Literal["softmax", "crf"]
DECODERS = ("softmax", "crf")


class Scores(NamedTuple):
    """What the network says of every label, before any is chosen.

    Attributes:
        words: logits [B, T, N], without meaning in padding; None: words have no labels.
        sentences: logits [B, M]; None: sentences have no labels.
    """

    words: Tensor | None
    sentences: Tensor | None


class Decoded(NamedTuple):
    """The labels given, and how probable each label is; None as in :class:`Scores`.

    Attributes:
        labels: of words, int64 [B, T], without meaning in padding.
        probabilities: [B, T, N], likewise.
        sentence_labels: int64 [B].
        sentence_probabilities: [B, M].
    """

    labels: Tensor | None
    probabilities: Tensor | None
    sentence_labels: Tensor | None
    sentence_probabilities: Tensor | None


class Labeller(nn.Module):
    """Word embeddings and a recurrent network, with a head for words, sentences or both.

    Args:
        recurrent: reads E (or, with characters, E + W) features, batch first; in
            one direction or two.
        words: the vocabulary; words[0] is "<pad>" and words[1] is "<unk>".
        label_names: names of the N labels of words; empty: words have none.
        embedding_size: E.
        lower_case: whether words are looked up in lower case.
        characters: also reads each word's characters; None: words only.
        word_dropout: probability, in training, that a word is read as unknown, so
            that its characters and neighbours have to do.
        decoder: "softmax": each word's label by itself. "crf": all labels of a
            sentence together, by a :class:`LinearChainCRF`.
        sentence_label_names: names of the M labels of whole sentences, such as
            intents; empty: sentences have none.
        pooling: "max", "mean" or "attention"; how a sentence becomes one vector.
        embedding_std: standard deviation of the embeddings' first values. 1 is
            torch's; a smaller one keeps words that are seldom seen from being noise.

    Raises:
        ValueError: the vocabulary, the labels or the sizes do not fit.
    """

    def __init__(
        self,
        recurrent: Recurrent,
        *,
        words: Sequence[str],
        label_names: Sequence[str] = (),
        embedding_size: int,
        lower_case: bool = True,
        characters: CharacterEncoder | None = None,
        word_dropout: float = 0.0,
        decoder: Decoder = "softmax",
        sentence_label_names: Sequence[str] = (),
        pooling: PoolingName = "max",
        embedding_std: float = 1.0,
    ) -> None:
        super().__init__()
        check_positive("embedding_size", embedding_size)
        check_choice("decoder", decoder, DECODERS)
        if not 0 <= word_dropout < 1:
            raise ValueError(f"word_dropout={word_dropout!r} is no probability below 1")
        if not embedding_std > 0:
            raise ValueError(f"embedding_std={embedding_std!r} is out of range; give one above 0")
        _check_names(words, label_names, sentence_label_names)
        if decoder == "crf" and not label_names:
            raise ValueError("decoder='crf' needs label_names: it decodes the labels of words")
        width = embedding_size + (characters.output_size if characters else 0)
        if recurrent.input_size != width or not recurrent.batch_first:
            raise ValueError(
                f"recurrent.input_size={recurrent.input_size}, batch_first="
                f"{recurrent.batch_first}; a labeller with embedding_size={embedding_size} takes "
                f"{width} and True"
            )
        self.recurrent = recurrent
        self.words = tuple(words)
        self.label_names = tuple(label_names)
        self.sentence_label_names = tuple(sentence_label_names)
        self.lower_case = lower_case
        self.characters = characters
        self.word_dropout = word_dropout
        self.embedding = nn.Embedding(len(words), embedding_size, padding_idx=0)
        with torch.no_grad():
            self.embedding.weight.mul_(embedding_std)
        size, N, M = recurrent.output_size, len(label_names), len(sentence_label_names)
        self.head = nn.Linear(size, N) if N else None
        self.crf = LinearChainCRF(N) if decoder == "crf" else None
        self.pooling = build_pooling(pooling, size) if M else None
        self.sentence_head = nn.Linear(size, M) if M else None
        # Padding is no word: a text that has it is not known.
        self._ids = {word: index for index, word in enumerate(words) if word != PADDING}

    def encode(self, sentence: Sequence[str]) -> list[int]:
        """The token id of each word; unknown words are 1."""
        unknown = self._ids[UNKNOWN]
        return [
            self._ids.get(word.lower() if self.lower_case else word, unknown) for word in sentence
        ]

    def encode_characters(self, sentence: Sequence[str]) -> list[list[int]]:
        """The character ids of each word; nothing for a labeller that reads words only."""
        return [self.characters.encode(word) for word in sentence] if self.characters else []

    def forward(
        self, tokens: Tensor, lengths: Tensor | None = None, chars: Tensor | None = None
    ) -> Scores:
        """Scores every label for every word, and for every sentence.

        Args:
            tokens: token ids, int64 [B, T].
            lengths: integers [B], each from 1 to T; None: every row is full.
            chars: character ids, int64 [B, T, C], 0 after a word's end; None for a
                labeller that reads words only.

        Raises:
            ValueError: chars are missing, or there is nothing that reads them.
        """
        if lengths is None:
            lengths = torch.full(tokens.shape[:1], tokens.shape[1], device=tokens.device)
        hidden, _ = self.recurrent(self._words(tokens, chars), lengths)
        words = None if self.head is None else self.head(hidden)
        if self.pooling is None or self.sentence_head is None:
            return Scores(words, None)
        return Scores(words, self.sentence_head(self.pooling(hidden, lengths)))

    def loss(
        self, scores: Scores, labels: Tensor, sentence_labels: Tensor, lengths: Tensor
    ) -> Tensor:
        """What training minimizes: the negative log-likelihood per word, plus that per sentence.

        Args:
            scores: from :meth:`forward`.
            labels: int64 [B, T]; -100 in padding, and for a word that does not count,
                which a CRF has not.
            sentence_labels: int64 [B]; -100 for a sentence that does not count.
            lengths: integers [B].

        Returns:
            A scalar.
        """
        loss = lengths.new_zeros((), dtype=torch.float32)
        if scores.words is not None and self.crf is not None:
            loss = loss + self.crf(scores.words, labels, lengths).sum() / lengths.sum()
        elif scores.words is not None:
            loss = loss + label_loss(scores.words, labels)
        if scores.sentences is not None:
            loss = loss + label_loss(scores.sentences[:, None], sentence_labels[:, None])
        return loss

    def decode(self, scores: Scores, lengths: Tensor) -> Decoded:
        """Chooses the labels.

        With a softmax the label is the most probable one. With a CRF the labels are
        the best sequence, and the probabilities those of each label over all
        sequences, so that a given label is seldom not the most probable one.

        Args:
            scores: from :meth:`forward`.
            lengths: integers [B].
        """
        words, sentences = scores
        labels = probabilities = sentence_labels = sentence_probabilities = None
        if words is not None and self.crf is not None:
            labels = self.crf.decode(words, lengths)
            probabilities = self.crf.marginals(words, lengths)
        elif words is not None:
            labels, probabilities = words.argmax(dim=-1), words.softmax(dim=-1)
        if sentences is not None:
            sentence_labels = sentences.argmax(dim=-1)
            sentence_probabilities = sentences.softmax(dim=-1)
        return Decoded(labels, probabilities, sentence_labels, sentence_probabilities)

    def _words(self, tokens: Tensor, chars: Tensor | None) -> Tensor:
        """What the network reads of each word, [B, T, E] or [B, T, E + W]."""
        if (chars is None) != (self.characters is None):
            has = "reads no characters" if self.characters is None else "reads characters too"
            raise ValueError(f"chars={'None' if chars is None else '...'}: this labeller {has}")
        if self.training and self.word_dropout > 0:
            dropped = torch.rand(tokens.shape, device=tokens.device) < self.word_dropout
            tokens = tokens.masked_fill(dropped & (tokens > 0), self._ids[UNKNOWN])
        words: Tensor = self.recurrent.drop_words(self.embedding(tokens), tokens)
        if self.characters is None or chars is None:
            return words
        return torch.cat([words, self.characters(chars)], dim=-1)

    def example(self, batch: int, time: int, generator: torch.Generator) -> Tensor:
        """Draws token ids, [batch, time]."""
        return torch.randint(1, len(self.words), (batch, time), generator=generator)


def _check_names(words: Sequence[str], labels: Sequence[str], sentence: Sequence[str]) -> None:
    if tuple(words[:2]) != (PADDING, UNKNOWN) or len(set(words)) != len(words):
        raise ValueError(
            f"words begins with {list(words[:2])}; give {[PADDING, UNKNOWN]} first and "
            "each word once"
        )
    if not labels and not sentence:
        raise ValueError(
            "label_names=[] and sentence_label_names=[]; give at least one label of either"
        )
    for name, names in (("label_names", labels), ("sentence_label_names", sentence)):
        if len(set(names)) != len(names):
            raise ValueError(f"{name}={list(names)}; give each once")
