"""A series of observations and its parts in time."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Series:
    """Observations of one thing at regular times.

    Args:
        name: of the series.
        timestamps: ascending datetime64 [rows].
        values: float64 [rows, features].
        features: names of the columns.
        frequency: pandas' offset alias of the time between two rows.
        units: unit of each feature, "" where there is none; empty: all without.

    Raises:
        ValueError: shapes differ, or time does not ascend.
    """

    name: str
    timestamps: NDArray[np.datetime64]
    values: NDArray[np.float64]
    features: tuple[str, ...]
    frequency: str
    units: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        rows, width = self.values.shape
        if self.timestamps.shape != (rows,) or len(self.features) != width:
            raise ValueError(
                f"series {self.name!r} has {rows} rows of {width} values, "
                f"{len(self.timestamps)} timestamps and {len(self.features)} feature names; "
                "give one timestamp for each row and one name for each column"
            )
        if self.units and len(self.units) != width:
            raise ValueError(f"units={self.units!r}; give one unit for each of {self.features}")
        check_ascending(self.name, self.timestamps)

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, start: int, stop: int) -> "Series":
        """The rows from ``start`` to before ``stop``."""
        return Series(
            self.name,
            self.timestamps[start:stop],
            self.values[start:stop],
            self.features,
            self.frequency,
            self.units,
        )

    def columns(self, names: Sequence[str]) -> list[int]:
        """Column numbers of features.

        Raises:
            ValueError: a name is no feature of the series.
        """
        for name in names:
            if name not in self.features:
                raise ValueError(
                    f"{name!r} is no feature of series {self.name!r}; "
                    f"use one of {', '.join(self.features)}"
                )
        return [self.features.index(name) for name in names]

    def digest(self) -> str:
        """sha256 of names, times and values, in hex."""
        content = hashlib.sha256(
            "\n".join([self.name, self.frequency, *self.features, *self.units]).encode()
        )
        content.update(self.timestamps.astype("datetime64[ns]").astype("<i8").tobytes())
        content.update(self.values.astype("<f8").tobytes())
        return content.hexdigest()


@dataclass(frozen=True)
class SeriesSplit:
    """A series and the two moments that cut it into three parts.

    Args:
        series: the whole.
        train_rows: rows of the training part, the first.
        validation_rows: rows of the validation part, which follows it.
    """

    series: Series
    train_rows: int
    validation_rows: int

    @property
    def train(self) -> Series:
        """The training part: all that training, scaling included, may read."""
        return self.series.rows(*self.bounds("train"))

    @property
    def validation(self) -> Series:
        """The part that chooses the epoch."""
        return self.series.rows(*self.bounds("validation"))

    @property
    def test(self) -> Series:
        """The part held out to the end."""
        return self.series.rows(*self.bounds("test"))

    def digest(self) -> str:
        """sha256 of the series and of where it is cut, in hex."""
        text = f"{self.series.digest()} {self.train_rows} {self.validation_rows}"
        return hashlib.sha256(text.encode()).hexdigest()

    def bounds(self, part: Part) -> tuple[int, int]:
        """First row of a part and the row after its last."""
        end = self.train_rows + self.validation_rows
        return {
            "train": (0, self.train_rows),
            "validation": (self.train_rows, end),
            "test": (end, len(self.series)),
        }[part]


def split_by_time(
    series: Series, train_until: date | None = None, validation_until: date | None = None
) -> SeriesSplit:
    """Cuts a series into training, validation and test, in this order.

    Args:
        series: the whole.
        train_until: first day after the training part; None: 70 % of the rows.
        validation_until: first day after the validation part; None: half of the rest.

    Raises:
        ValueError: a part would be empty.
    """
    total = len(series)
    train = _rows_before(series, train_until, total * 7 // 10)
    end = _rows_before(series, validation_until, train + (total - train) // 2)
    split = SeriesSplit(series, train, end - train)
    for part in ("train", "validation", "test"):
        start, stop = split.bounds(part)
        if stop <= start:
            raise ValueError(
                f"the {part} part of series {series.name!r} is empty: train_until={train_until}, "
                f"validation_until={validation_until}, and the series runs from "
                f"{series.timestamps[0]} to {series.timestamps[-1]}; move the two dates"
            )
    return split


def check_ascending(name: str, timestamps: NDArray[np.datetime64]) -> None:
    """Checks that time only goes forward.

    Raises:
        ValueError: naming the first row that is not after its predecessor.
    """
    wrong = np.flatnonzero(np.diff(timestamps) <= np.timedelta64(0))
    if not wrong.size:
        return
    row = int(wrong[0]) + 1
    moment, before = timestamps[row], timestamps[row - 1]
    problem = "is a duplicate" if moment == before else f"comes after {before}: unsorted"
    remedy = "keep one row for each time" if moment == before else "sort the rows by time"
    raise ValueError(f"series {name!r}, row {row}, time {moment} {problem}; {remedy}")


def _rows_before(series: Series, until: date | None, default: int) -> int:
    if until is None:
        return default
    return int(np.searchsorted(series.timestamps, np.datetime64(until), side="left"))
