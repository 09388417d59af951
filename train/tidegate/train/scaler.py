"""Standardization of raw values, inside the network and inside the graph."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class StandardScaler:
    """What makes raw features readable for a network: (x - center) / scale.

    A differenced feature is read as its change since the last observation, so
    that a series may leave the range seen in training.

    Attributes:
        center: [features], the mean of what the network reads.
        scale: [features], its standard deviation, positive.
        differenced: [features].
        level: [features], the mean of the raw values.
    """

    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    differenced: tuple[bool, ...]
    level: NDArray[np.float64]

    @classmethod
    def fit(
        cls, values: NDArray[np.floating], differenced: Sequence[bool] = ()
    ) -> "StandardScaler":
        """Fits to the training part, and to nothing else.

        Args:
            values: raw values [rows, features], finite, at least two rows.
            differenced: which features are differenced; empty: none.

        Raises:
            ValueError: the values are too few, not finite, or constant.
        """
        values = np.asarray(values, dtype=np.float64)
        flags = tuple(differenced) or (False,) * values.shape[-1]
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
        read = np.where(flags, np.diff(values, axis=0, prepend=values[:1]), values)[1:]
        scale = read.std(axis=0)
        if not (scale > 0).all():
            feature = int(np.argmin(scale))
            raise ValueError(f"feature {feature} of values is constant; leave it out")
        return cls(read.mean(axis=0), scale, flags, values.mean(axis=0))
