"""What a check of a data set comes to, of whatever kind the data is.

Problems are lines that cannot be read. Notices are no mistakes, but cost
accuracy or hide in an average: labels that only the test part has, say.
"""

from dataclasses import dataclass

import pandas as pd

from tidegate.train.data.clean import SeriesProblem
from tidegate.train.data.text import Problem

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Checked:
    """What a check came to.

    Attributes:
        counts: a row for each part.
        problems: what could not be read, in the order of the files.
        notices: one line each.
    """

    counts: pd.DataFrame
    problems: tuple[Problem | SeriesProblem, ...] = ()
    notices: tuple[str, ...] = ()
