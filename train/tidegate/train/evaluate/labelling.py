"""Scores of labels.

Dimensions: C labels.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from tidegate.train.data.buckets import IGNORED, batches
from tidegate.train.data.sentences import Sentence
from tidegate.train.labeller import Labeller


@dataclass(frozen=True)
class Answers:
    """The labels given to sentences, beside the right ones.

    Attributes:
        sentences: with the right labels.
        labels: the labels given, one tuple for each sentence.
        label_names: of the model; a right label may be missing here.
    """

    sentences: tuple[Sentence, ...]
    labels: tuple[tuple[str, ...], ...]
    label_names: tuple[str, ...]

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

    def confusion(self) -> NDArray[np.int64]:
        """Counts [C, C]: rows are right labels, columns given ones.

        Words whose right label the model does not know are left out.
        """
        index = {name: number for number, name in enumerate(self.label_names)}
        counts = np.zeros((len(index), len(index)), np.int64)
        for sentence, given in zip(self.sentences, self.labels, strict=True):
            for right, label in zip(sentence.labels, given, strict=True):
                if right in index:
                    counts[index[right], index[label]] += 1
        return counts

    def by_label(self) -> pd.DataFrame:
        """Precision, recall, F1 and number of words of each label."""
        counts = self.confusion()
        hits, given, right = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
        return pd.DataFrame(
            {
                "label": self.label_names,
                "precision": hits / np.maximum(given, 1),
                "recall": hits / np.maximum(right, 1),
                "f1": 2 * hits / np.maximum(given + right, 1),
                "words": right,
            }
        )

    def _words(self) -> list[tuple[str, bool]]:
        return [
            (word, right == label)
            for sentence, given in zip(self.sentences, self.labels, strict=True)
            for word, right, label in zip(sentence.words, sentence.labels, given, strict=True)
        ]


@torch.no_grad()
def predict(model: Labeller, sentences: Sequence[Sentence], tokens: int = 4096) -> Answers:
    """Labels sentences.

    Args:
        model: put into evaluation mode.
        sentences: at least one.
        tokens: most tokens of a batch; bounds the memory, not the result.
    """
    model.eval()
    ids = [model.encode(one.words) for one in sentences]
    given: dict[int, tuple[str, ...]] = {}
    for rows, batch in batches(ids, [[]] * len(ids), tokens):
        best = model(batch.tokens, batch.lengths).argmax(dim=-1)
        for row, numbers, length in zip(rows, best, batch.lengths, strict=True):
            given[row] = tuple(model.label_names[number] for number in numbers[:length])
    labels = tuple(given[row] for row in range(len(sentences)))
    return Answers(tuple(sentences), labels, model.label_names)


def encode_labels(model: Labeller, sentence: Sentence) -> list[int]:
    """The numbers of a sentence's labels; -100, which no loss counts, for an unknown one."""
    index = {name: number for number, name in enumerate(model.label_names)}
    return [index.get(label, IGNORED) for label in sentence.labels]
