"""Counts of series, and what is wrong in any of them."""

from collections.abc import Callable

import pandas as pd

from tidegate.train.data.check import PARTS, Checked
from tidegate.train.data.clean import SeriesProblem, SeriesReport
from tidegate.train.data.panel import Panel
from tidegate.train.data.series import Series


def check_series(read: Callable[[SeriesReport], Panel]) -> Checked:
    """Reads every series that can be read and collects what is wrong in the others.

    Args:
        read: gives the series without problems, and every problem to its argument.

    Raises:
        ValueError: nothing can be read at all.
    """
    problems: list[SeriesProblem] = []
    try:
        counts = _count(read(problems.append))
    except ValueError:
        # Without a series that is whole there is nothing to count.
        if not problems:
            raise
        counts = pd.DataFrame({"part": PARTS, "series": 0, "rows": 0})
    return Checked(counts, tuple(problems))


def _count(panel: Panel) -> pd.DataFrame:
    rows = []
    for part in PARTS:
        series: tuple[Series, ...] = getattr(panel, part)
        rows.append(
            {
                "part": part,
                "series": len(series),
                "rows": sum(map(len, series)),
                "from": str(min(one.timestamps[0] for one in series)),
                "to": str(max(one.timestamps[-1] for one in series)),
            }
        )
    return pd.DataFrame(rows)
