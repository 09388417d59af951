"""A data set of series: many things, observed alike."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.train.data.series import Series, SeriesSplit


@dataclass(frozen=True)
class Panel:
    """Series with the same columns, each cut into its three parts.

    Args:
        splits: one for each series, at least one.
        targets: names of the features to forecast.

    Raises:
        ValueError: there is none, two have the same name, or their columns differ.
    """

    splits: tuple[SeriesSplit, ...]
    targets: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.splits:
            raise ValueError("splits is empty; give at least one series")
        names = set()
        for one in self.whole:
            if (one.features, one.frequency) != (self.features, self.frequency):
                raise ValueError(
                    f"series {one.name!r} has the features {list(one.features)} at "
                    f"{one.frequency!r}, and series {self.whole[0].name!r} has "
                    f"{list(self.features)} at {self.frequency!r}; give all the same"
                )
            if one.name in names:
                raise ValueError(f"two series have the name {one.name!r}; give each its own")
            names.add(one.name)
        if not self.targets:
            raise ValueError("targets is empty; name at least one feature to forecast")
        self.columns(self.targets)

    @property
    def whole(self) -> tuple[Series, ...]:
        """Every series from its first row to its last."""
        return tuple(split.series for split in self.splits)

    @property
    def train(self) -> tuple[Series, ...]:
        """The training parts: all that training, scaling included, may read."""
        return tuple(split.train for split in self.splits)

    @property
    def validation(self) -> tuple[Series, ...]:
        """The parts that choose the epoch."""
        return tuple(split.validation for split in self.splits)

    @property
    def test(self) -> tuple[Series, ...]:
        """The parts held out to the end."""
        return tuple(split.test for split in self.splits)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns."""
        return self.splits[0].series.features

    @property
    def units(self) -> tuple[str, ...]:
        """One for each feature; empty: all without."""
        return self.splits[0].series.units

    @property
    def frequency(self) -> str:
        """Pandas' offset alias of the time between two rows; "1" where rows are numbered."""
        return self.splits[0].series.frequency

    def columns(self, names: Sequence[str]) -> list[int]:
        """Column numbers of features.

        Raises:
            ValueError: a name is no feature.
        """
        return self.splits[0].series.columns(names)

    def rows(self) -> dict[str, int]:
        """Rows of each part, all series together."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: sum(map(len, part)) for name, part in parts.items()}

    def digest(self) -> str:
        """sha256 of the series and of where they are cut, in hex."""
        digests = [split.digest() for split in self.splits]
        if len(digests) == 1:
            return digests[0]
        return hashlib.sha256(" ".join(digests).encode()).hexdigest()
