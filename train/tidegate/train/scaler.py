"""Scaling of raw values, inside the network and inside the graph.

One scale for each feature, over all series: a series that is served but was not
there in training has no scale of its own. Series whose levels differ are read
as changes (``differenced``), or as their distance from their own last value.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from tidegate.train.arguments import check_choice

Values = NDArray[np.float64]
ScalerName = Literal["standard", "robust", "mean_abs"]
DifferencedScale = Literal["changes", "values"]


@dataclass(frozen=True)
class Scaler(ABC):
    """What makes raw features readable for a network: (x - center) / scale.

    A differenced feature is read as its change since the last observation, so
    that a series may leave the range seen in training.

    Attributes:
        center: [features], of what the network reads.
        scale: [features], positive.
        differenced: [features].
        level: [features], the mean of the raw values.
    """

    center: Values
    scale: Values
    differenced: tuple[bool, ...]
    level: Values

    measure: ClassVar[str]

    @staticmethod
    @abstractmethod
    def center_of(read: Values) -> Values:
        """The center [features] of rows [rows, features]."""

    @staticmethod
    @abstractmethod
    def scale_of(read: Values) -> Values:
        """The scale [features] of rows [rows, features]."""

    @classmethod
    def fit(
        cls,
        values: NDArray[np.floating] | Sequence[NDArray[np.floating]],
        differenced: Sequence[bool] = (),
        indicators: Collection[int] = (),
        names: Sequence[str] = (),
        differenced_scale: DifferencedScale = "changes",
    ) -> Self:
        """Fits to the training part, and to nothing else.

        Args:
            values: raw values [rows, features] of one series or of each of several,
                finite, at least two rows.
            differenced: which features are differenced; empty: none.
            indicators: columns that are 0 or 1, which are read as they are.
            names: of the features, for errors; empty: they are numbered.
            differenced_scale: whether a differenced feature has the scale of its changes
                or of its values.

        Raises:
            ValueError: the values are too few, not finite, or have no spread.
        """
        parts = [np.asarray(one, dtype=np.float64) for one in _parts(values)]
        width = parts[0].shape[-1]
        flags = tuple(differenced) or (False,) * width
        for part in parts:
            _check_values(part, flags)
        # The first row of a series, which has no change, is left out for all features.
        values_read = np.concatenate([one[1:] for one in parts])
        changes = np.concatenate([np.diff(one, axis=0) for one in parts])
        read = np.where(flags, changes, values_read)
        scaled = read if differenced_scale == "changes" else values_read
        center, scale = cls.center_of(read), cls.scale_of(scaled)
        center[list(indicators)], scale[list(indicators)] = 0.0, 1.0
        if not (scale > 0).all():
            feature = int(np.argmin(scale))
            is_constant = np.ptp(scaled[:, feature]) == 0
            problem = (
                "constant; leave it out"
                if is_constant
                else f"mostly one value, so that its {cls.measure} is 0; use another scaler"
            )
            name = repr(names[feature]) if names else feature
            raise ValueError(f"feature {name} of values is {problem}")
        return cls(center, scale, flags, np.concatenate(parts).mean(axis=0))


class StandardScaler(Scaler):
    """Mean and standard deviation."""

    measure = "standard deviation"

    @staticmethod
    @override
    def center_of(read: Values) -> Values:
        return np.asarray(read.mean(axis=0))

    @staticmethod
    @override
    def scale_of(read: Values) -> Values:
        return np.asarray(read.std(axis=0))


class RobustScaler(Scaler):
    """Median and interquartile range: outliers move neither."""

    measure = "interquartile range"

    @staticmethod
    @override
    def center_of(read: Values) -> Values:
        return np.quantile(read, 0.5, axis=0)

    @staticmethod
    @override
    def scale_of(read: Values) -> Values:
        low, high = np.quantile(read, (0.25, 0.75), axis=0)
        return np.asarray(high - low)


class MeanAbsScaler(Scaler):
    """The mean of absolute values, and no centre: zero stays zero, as counts want it."""

    measure = "mean of absolute values"

    @staticmethod
    @override
    def center_of(read: Values) -> Values:
        return np.zeros(read.shape[1])

    @staticmethod
    @override
    def scale_of(read: Values) -> Values:
        return np.asarray(np.abs(read).mean(axis=0))


SCALERS: dict[str, type[Scaler]] = {
    "standard": StandardScaler,
    "robust": RobustScaler,
    "mean_abs": MeanAbsScaler,
}


def find_scaler(name: str) -> type[Scaler]:
    """The scaler of a name.

    Raises:
        ValueError: there is none.
    """
    check_choice("scaler", name, SCALERS)
    return SCALERS[name]


def _parts(
    values: NDArray[np.floating] | Sequence[NDArray[np.floating]],
) -> Sequence[NDArray[np.floating]]:
    return [values] if isinstance(values, np.ndarray) else values


def _check_values(values: Values, flags: Sequence[bool]) -> None:
    if values.ndim != 2 or len(values) < 2 or len(flags) != values.shape[1]:
        raise ValueError(
            f"values has the shape {list(values.shape)} and differenced {len(flags)} flags; "
            "give at least two rows of [rows, features] and one flag a feature"
        )
    if not np.isfinite(values).all():
        row, feature = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(
            f"values[{row}, {feature}]={values[row, feature]} is not finite; "
            "fill or drop missing observations first"
        )
