"""Cuts in time: training, validation and test follow each other, in every series alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from tidegate.train.data.panel import Panel
from tidegate.train.data.series import Part, Series, SeriesSplit, Timestamps

PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Cuts:
    """Where the parts end.

    Args:
        train_until: first day after the training part; None: 70 % of the times.
        validation_until: first day after the validation part; None: half of the rest.
        rows: of the training, validation and test part, in place of dates, the
            first one at the first row; what is left after them is not used.
    """

    train_until: date | None = None
    validation_until: date | None = None
    rows: tuple[int, int, int] | None = None


def split_by_time(
    series: Series, train_until: date | None = None, validation_until: date | None = None
) -> SeriesSplit:
    """Cuts one series into training, validation and test, in this order.

    Args:
        series: the whole.
        train_until: first day after the training part; None: 70 % of the rows.
        validation_until: first day after the validation part; None: half of the rest.

    Raises:
        ValueError: a part would be empty.
    """
    return split_panel([series], Cuts(train_until, validation_until)).splits[0]


def split_panel(series: Sequence[Series], cuts: Cuts, targets: Sequence[str] = ()) -> Panel:
    """Cuts every series at the same two moments.

    Args:
        series: with the same features, at least one.
        cuts: where.
        targets: names of the features to forecast; empty: the first.

    Raises:
        ValueError: a part of a series would be empty, or the cuts do not fit the
            times of the series.
    """
    times = np.unique(np.concatenate([one.timestamps for one in series]))
    if cuts.rows is not None:
        _check_rows(series, times, cuts.rows)
        series = [one.rows(0, sum(cuts.rows)) for one in series]
        train, end = cuts.rows[0], cuts.rows[0] + cuts.rows[1]
    else:
        train = _position(times, cuts.train_until, len(times) * 7 // 10)
        end = _position(times, cuts.validation_until, train + (len(times) - train) // 2)
    splits = tuple(_split(one, times, train, end, cuts) for one in series)
    return Panel(splits, tuple(targets) or series[0].features[:1])


def _split(one: Series, times: Timestamps, train: int, end: int, cuts: Cuts) -> SeriesSplit:
    train_rows, end_rows = (
        int(np.searchsorted(one.timestamps, times[cut])) if cut < len(times) else len(one)
        for cut in (train, end)
    )
    split = SeriesSplit(one, train_rows, end_rows - train_rows)
    for part in PARTS:
        start, stop = split.bounds(part)
        if stop <= start:
            raise ValueError(
                f"the {part} part of series {one.name!r} is empty: "
                f"train_until={cuts.train_until}, validation_until={cuts.validation_until}, and "
                f"the series runs from {one.timestamps[0]} to {one.timestamps[-1]}; move the two "
                "dates, or leave the series out"
            )
    return split


def _position(times: Timestamps, until: date | None, default: int) -> int:
    if until is None:
        return default
    if not np.issubdtype(times.dtype, np.datetime64):
        raise ValueError(
            f"a cut at {until} of series whose times are whole numbers; cut them by "
            "dataset.part_rows"
        )
    return int(np.searchsorted(times, np.datetime64(until), side="left"))


def _check_rows(series: Sequence[Series], times: Timestamps, rows: tuple[int, int, int]) -> None:
    for one in series:
        if not np.array_equal(one.timestamps, times):
            raise ValueError(
                f"series {one.name!r} runs from {one.timestamps[0]} to {one.timestamps[-1]} in "
                f"{len(one)} rows, others have other times: a number of rows would cut them at "
                "different moments; cut them by train_until and validation_until"
            )
    if min(rows) < 1 or sum(rows) > len(times):
        raise ValueError(
            f"dataset.part_rows = {list(rows)}; give three of at least 1, {len(times)} together at "
            "most"
        )
