"""A series of observations and its parts in time."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import nan
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Part = Literal["train", "validation", "test"]
# Moments of the calendar, or whole numbers where time is counted.
Timestamps = NDArray[np.datetime64 | np.int64]


@dataclass(frozen=True)
class Series:
    """Observations of one thing at regular times.

    Args:
        name: of the series.
        timestamps: ascending datetime64 [rows], or int64 where rows are numbered.
        values: float64 [rows, features].
        features: names of the columns.
        frequency: pandas' offset alias of the time between two rows; "1" where
            rows are numbered.
        units: unit of each feature, "" where there is none; empty: all without.
        observed: bool [rows, features], False where a missing value was filled; None:
            all were observed. What was filled is read, but is no truth to learn.
        indicators: features that are 0 or 1, which no scaler changes.

    Raises:
        ValueError: shapes differ, or time does not ascend.
    """

    name: str
    timestamps: Timestamps
    values: NDArray[np.float64]
    features: tuple[str, ...]
    frequency: str
    units: tuple[str, ...] = field(default=())
    observed: NDArray[np.bool_] | None = None
    indicators: frozenset[str] = frozenset()

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
        return replace(
            self,
            timestamps=self.timestamps[start:stop],
            values=self.values[start:stop],
            observed=None if self.observed is None else self.observed[start:stop],
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

    def truth(self, columns: Sequence[int]) -> NDArray[np.float64]:
        """Values to forecast, [rows, columns]; NaN where none was observed."""
        values = self.values[:, columns]
        return values if self.observed is None else np.where(self.observed[:, columns], values, nan)

    def digest(self) -> str:
        """sha256 of names, times, values and what of them was observed, in hex."""
        content = hashlib.sha256(
            "\n".join([self.name, self.frequency, *self.features, *self.units]).encode()
        )
        is_dated = np.issubdtype(self.timestamps.dtype, np.datetime64)
        times = self.timestamps.astype("datetime64[ns]") if is_dated else self.timestamps
        content.update(times.astype("<i8").tobytes())
        content.update(self.values.astype("<f8").tobytes())
        if self.observed is not None:
            content.update(self.observed.tobytes())
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


def check_ascending(name: str, timestamps: Timestamps) -> None:
    """Checks that time only goes forward.

    Raises:
        ValueError: naming the first row that is not after its predecessor.
    """
    wrong = np.flatnonzero(np.diff(timestamps.astype(np.int64)) <= 0)
    if not wrong.size:
        return
    row = int(wrong[0]) + 1
    moment, before = timestamps[row], timestamps[row - 1]
    problem = "is a duplicate" if moment == before else f"comes after {before}: unsorted"
    remedy = "keep one row for each time" if moment == before else "sort the rows by time"
    raise ValueError(f"series {name!r}, row {row}, time {moment} {problem}; {remedy}")
