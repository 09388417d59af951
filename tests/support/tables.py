"""Small tables of series, and what is read from them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tidegate.train.data.panel import Panel
from tidegate.train.data.split import Cuts
from tidegate.train.data.table import TableLayout
from tidegate.train.data.tables import load_panel

DAYS = pd.date_range("2001-01-01", periods=10, freq="D")


def long(**columns: Any) -> pd.DataFrame:
    """Two series of ten days; the second counts from 100."""
    frames = [
        pd.DataFrame({"unique_id": name, "ds": DAYS, "y": np.arange(10.0) + first})
        for name, first in (("a", 0), ("b", 100))
    ]
    return pd.concat(frames, ignore_index=True).assign(**columns)


def panel(
    folder: Path,
    table: pd.DataFrame | str,
    cuts: Cuts | None = None,
    horizon: int = 1,
    **layout: Any,
) -> Panel:
    path = folder / "table.csv"
    if isinstance(table, str):
        path.write_text(table)
    else:
        table.to_csv(path, index=False)
    return load_panel(path, TableLayout(**layout), cuts or Cuts(), horizon)


def refusal(folder: Path, table: pd.DataFrame | str, **layout: Any) -> str:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - each test matches the text
        panel(folder, table, **layout)
    return str(refused.value)


def one(flow: str) -> str:
    """A table of one series; a line is a day and a value."""
    return "ds,flow\n" + "\n".join(flow.split())
