"""Scores of labels.

Dimensions: C labels.
"""

from collections.abc import Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from tidegate.train.data.buckets import IGNORED, Batch, Encoded, batches
from tidegate.train.data.sentences import Sentence
from tidegate.train.data.spans import are_span_labels
from tidegate.train.evaluate.spans import SpanCounts, count_spans
from tidegate.train.inference import sampled_networks
from tidegate.train.labeller import Decoded, Labeller

Confusion = tuple[NDArray[np.int64], tuple[str, ...]]


@dataclass(frozen=True)
class Answers:
    """The labels given to sentences, beside the right ones.

    Attributes:
        sentences: with the right labels.
        labels: the labels given to words, one tuple for each sentence; or none at all.
        label_names: of the model; a right label may be missing here.
        sentence_labels: the labels given to whole sentences; or none at all.
        sentence_label_names: of the model, likewise.
    """

    sentences: tuple[Sentence, ...]
    labels: tuple[tuple[str, ...], ...] = ()
    label_names: tuple[str, ...] = ()
    sentence_labels: tuple[str, ...] = ()
    sentence_label_names: tuple[str, ...] = ()

    def metrics(self) -> dict[str, float]:
        """Every score that the model's labels allow.

        ``accuracy`` of words; ``precision``, ``recall`` and ``f1`` of spans;
        ``sentence_accuracy``; ``exact_match``, the share of sentences that are right
        in all their labels. A label that the model lacks is never right.
        """
        metrics = {}
        if self.labels:
            metrics["accuracy"] = self.accuracy
        if self._has_spans:
            counts = self.spans()
            metrics |= {"precision": counts.precision, "recall": counts.recall, "f1": counts.f1}
        if self.sentence_labels:
            metrics["sentence_accuracy"] = float(np.mean(self._right_sentences()))
        if self.labels and self.sentence_labels:
            words = [one.labels == given for one, given in self._labelled()]
            both = np.logical_and(words, self._right_sentences())
            metrics["exact_match"] = float(np.mean(both))
        return metrics

    @property
    def accuracy(self) -> float:
        """Share of the words that got the right label."""
        return float(np.mean([right for _, right in self._words()]))

    def accuracy_on(self, words: Collection[str], *, lower_case: bool = True) -> float:
        """Share of right labels among occurrences of some words; NaN if there are none."""
        right = [
            right
            for word, right in self._words()
            if (word.lower() if lower_case else word) in words
        ]
        return float(np.mean(right)) if right else float("nan")

    def spans(self) -> SpanCounts:
        """Spans given, right and in the data.

        Raises:
            ValueError: a label is no part of a span.
        """
        return count_spans((one.labels, given) for one, given in self._labelled())

    def confusion(self) -> NDArray[np.int64]:
        """Counts [C, C] of words: rows are right labels, columns given ones.

        Words whose right label the model does not know are left out.
        """
        pairs = [
            pair for one, given in self._labelled() for pair in zip(one.labels, given, strict=True)
        ]
        return _confusion(pairs, self.label_names)

    def confusions(self) -> dict[str, Confusion]:
        """Counts with the names of rows and columns, of ``labels`` and ``sentence_labels``."""
        found: dict[str, Confusion] = {}
        if self.labels:
            found["labels"] = self.confusion(), self.label_names
        if self.sentence_labels:
            pairs = zip((one.label for one in self.sentences), self.sentence_labels, strict=True)
            names = self.sentence_label_names
            found["sentence_labels"] = _confusion(pairs, names), names
        return found

    def tables(self) -> dict[str, pd.DataFrame]:
        """``by_label``, ``by_sentence_label`` and ``by_span``, as far as there are such labels."""
        tables = {
            f"by_{name[:-1]}": _by_label(*one, "words" if name == "labels" else "sentences")
            for name, one in self.confusions().items()
        }
        if self._has_spans:
            tables["by_span"] = self.spans().by_kind()
        return tables

    def by_label(self) -> pd.DataFrame:
        """Precision, recall, F1 and number of words of each label."""
        return _by_label(self.confusion(), self.label_names, "words")

    @property
    def _has_spans(self) -> bool:
        return bool(self.labels) and are_span_labels(self.label_names)

    def _labelled(self) -> list[tuple[Sentence, tuple[str, ...]]]:
        return list(zip(self.sentences, self.labels, strict=True))

    def _right_sentences(self) -> list[bool]:
        pairs = zip(self.sentences, self.sentence_labels, strict=True)
        return [one.label == given for one, given in pairs]

    def _words(self) -> list[tuple[str, bool]]:
        return [
            (word, right == label)
            for sentence, given in self._labelled()
            for word, right, label in zip(sentence.words, sentence.labels, given, strict=True)
        ]


def _confusion(pairs: Iterable[tuple[str, str]], names: tuple[str, ...]) -> NDArray[np.int64]:
    index = {name: number for number, name in enumerate(names)}
    counts = np.zeros((len(index), len(index)), np.int64)
    for right, given in pairs:
        if right in index:
            counts[index[right], index[given]] += 1
    return counts


def _by_label(counts: NDArray[np.int64], names: tuple[str, ...], unit: str) -> pd.DataFrame:
    hits, given, right = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    return pd.DataFrame(
        {
            "label": names,
            "precision": hits / np.maximum(given, 1),
            "recall": hits / np.maximum(right, 1),
            "f1": 2 * hits / np.maximum(given + right, 1),
            unit: right,
        }
    )


@torch.no_grad()
def predict(
    model: Labeller,
    sentences: Sequence[Sentence],
    tokens: int = 4096,
    *,
    mc_samples: int | None = None,
    encoded: Sequence[Encoded] | None = None,
) -> Answers:
    """Labels sentences.

    Args:
        model: put into evaluation mode.
        sentences: at least one.
        tokens: most tokens of a batch; bounds the memory, not the result.
        mc_samples: networks; each label is then the one that is most probable in their
            mean, word by word with a CRF too. None: the network of inference.
        encoded: the sentences from :func:`encode`, where they are labelled often; None:
            they are encoded here.
    """
    model.eval()
    if encoded is None:
        encoded = encode(model, sentences)
    labels: dict[int, tuple[str, ...]] = {}
    whole: dict[int, str] = {}
    device = model.embedding.weight.device
    for rows, on_cpu in batches(encoded, tokens):
        batch = on_cpu.to(device)
        best = _decoded(model, batch) if mc_samples is None else _sampled(model, batch, mc_samples)
        if best.labels is not None:
            for row, numbers, length in zip(
                rows, best.labels.tolist(), on_cpu.lengths, strict=True
            ):
                labels[row] = tuple(model.label_names[number] for number in numbers[:length])
        if best.sentence_labels is not None:
            for row, number in zip(rows, best.sentence_labels.tolist(), strict=True):
                whole[row] = model.sentence_label_names[number]
    return Answers(
        tuple(sentences),
        tuple(labels[row] for row in sorted(labels)),
        model.label_names,
        tuple(whole[row] for row in sorted(whole)),
        model.sentence_label_names,
    )


def _decoded(model: Labeller, batch: Batch) -> Decoded:
    scores = model(batch.tokens, batch.lengths, batch.chars)
    return model.decode(scores, batch.lengths)


def _sampled(model: Labeller, batch: Batch, mc_samples: int) -> Decoded:
    """The labels that are most probable in the mean of sampled networks."""
    with closing(sampled_networks(model, mc_samples)) as networks:
        found = [_decoded(model, batch) for _ in networks]
    words = _mean([one.probabilities for one in found])
    sentences = _mean([one.sentence_probabilities for one in found])
    return Decoded(
        None if words is None else words.argmax(dim=-1),
        words,
        None if sentences is None else sentences.argmax(dim=-1),
        sentences,
    )


def _mean(of_each: Sequence[Tensor | None]) -> Tensor | None:
    given = [one for one in of_each if one is not None]
    return torch.stack(given).mean(dim=0) if given else None


def encode(model: Labeller, sentences: Sequence[Sentence]) -> list[Encoded]:
    """Sentences in numbers; -100, which no loss counts, for a label that the model lacks."""
    index = {name: number for number, name in enumerate(model.label_names)}
    whole = {name: number for number, name in enumerate(model.sentence_label_names)}
    return [
        Encoded(
            model.encode(one.words),
            [index.get(label, IGNORED) for label in one.labels],
            model.encode_characters(one.words),
            whole.get(one.label, IGNORED),
        )
        for one in sentences
    ]
