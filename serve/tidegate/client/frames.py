"""pandas in and out, for those who have it; nothing here loads it by itself.

A long frame has a row for each observation of each series, with a column that
names the series, as in Nixtla's libraries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from tidegate.client.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from tidegate.v1.model_spec_pb2 import ForecastSpec


def is_frame(values: object) -> TypeGuard[pd.DataFrame]:
    """Whether this is a DataFrame, without loading pandas."""
    return hasattr(values, "columns") and hasattr(values, "to_numpy")


def rows_of(frame: pd.DataFrame, features: Sequence[str]) -> NDArray[np.float32]:
    """The features of each row, [rows, features], whatever the order of the columns.

    Raises:
        InvalidArgumentError: A feature has no column.
    """
    missing = [name for name in features if name not in frame.columns]
    if missing:
        raise InvalidArgumentError(
            f"the frame has the columns {list(frame.columns)}, not {missing}"
        )
    return frame[list(features)].to_numpy(np.float32)


def chunks_of(
    frame: pd.DataFrame, features: Sequence[str], key: str
) -> dict[str, NDArray[np.float32]]:
    """The rows of each series of a long frame, in their order.

    Raises:
        InvalidArgumentError: A feature, or the key, has no column.
    """
    if key not in frame.columns:
        raise InvalidArgumentError(f"the frame has the columns {list(frame.columns)}, not {[key]}")
    groups = frame.groupby(key, sort=False)
    return {str(name): rows_of(part, features) for name, part in groups}


def to_frame(
    forecasts: Mapping[str, NDArray[np.float32]], spec: ForecastSpec, key: str
) -> pd.DataFrame:
    """Forecasts as a long frame: key, step ahead, target, and a column for each quantile.

    Args:
        forecasts: float32 [horizon, targets, quantiles] of each series.
        spec: What the model says about them.
        key: Name of the first column.
    """
    # Only who asks for a frame needs it.
    import pandas as pd

    steps, targets = spec.horizon, list(spec.targets)
    stacked = np.stack(list(forecasts.values())) if forecasts else np.empty((0, 0), np.float32)
    columns = {
        key: np.repeat(list(forecasts), steps * len(targets)),
        "step": np.tile(np.repeat(np.arange(1, steps + 1), len(targets)), len(forecasts)),
        "target": np.tile(targets, len(forecasts) * steps),
    }
    quantiles = stacked.reshape(-1, len(spec.quantile_levels))
    names = [f"q{level:g}" for level in spec.quantile_levels]
    return pd.DataFrame(columns | dict(zip(names, quantiles.T, strict=True)))
