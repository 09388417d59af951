"""Counts of a text, and how much of it is unknown."""

import pandas as pd

from tidegate.train.data.check import PARTS, Checked
from tidegate.train.data.corpus import Corpus


def check_text(corpus: Corpus) -> Checked:
    """Tokens of each part, and how many of them are unknown."""
    rows = []
    for part in PARTS:
        ids = getattr(corpus, part)
        rows.append(
            {
                "part": part,
                "tokens": len(ids),
                "unknown tokens": float((ids == 0).mean()),
                "vocabulary": len(corpus.vocabulary),
            }
        )
    return Checked(pd.DataFrame(rows))
