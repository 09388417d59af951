"""Precision, recall and F1 of spans, as conlleval counts them.

A span is right when its first word, its last word and its kind are. The figures
are over all spans of all sentences together (micro average).
Source: Tjong Kim Sang and Buchholz 2000, the CoNLL-2000 shared task.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pandas as pd

from tidegate.train.data.spans import spans

Pairs = Iterable[tuple[Sequence[str], Sequence[str]]]


class SpanCounts(NamedTuple):
    """Numbers of spans by kind.

    Attributes:
        hits: given and right.
        given: by the model.
        right: in the data.
    """

    hits: Counter[str]
    given: Counter[str]
    right: Counter[str]

    @property
    def precision(self) -> float:
        """Share of right ones among those given; 0 when none was given."""
        return self.hits.total() / max(self.given.total(), 1)

    @property
    def recall(self) -> float:
        """Share of those in the data that were found; 0 when there is none."""
        return self.hits.total() / max(self.right.total(), 1)

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        return 2 * self.hits.total() / max(self.given.total() + self.right.total(), 1)

    def by_kind(self) -> pd.DataFrame:
        """Precision, recall, F1 and number of spans of each kind."""
        kinds = sorted(self.right | self.given)
        rows = []
        for kind in kinds:
            hits, given, right = (counts[kind] for counts in self)
            rows.append(
                {
                    "kind": kind,
                    "precision": hits / max(given, 1),
                    "recall": hits / max(right, 1),
                    "f1": 2 * hits / max(given + right, 1),
                    "spans": right,
                }
            )
        return pd.DataFrame(rows, columns=["kind", "precision", "recall", "f1", "spans"])


def count_spans(pairs: Pairs) -> SpanCounts:
    """Counts over sentences.

    Args:
        pairs: for each sentence the right labels, and those given; one for each word.

    Raises:
        ValueError: a label is neither O nor a prefix with a kind.
    """
    counts = SpanCounts(Counter(), Counter(), Counter())
    for right, given in pairs:
        expected, found = set(spans(right)), set(spans(given))
        counts.hits.update(one.kind for one in expected & found)
        counts.given.update(one.kind for one in found)
        counts.right.update(one.kind for one in expected)
    return counts
