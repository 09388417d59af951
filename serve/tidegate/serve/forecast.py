"""Forecasts of whole windows; no state is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tidegate.serve.errors import (
    InvalidArgumentError,
    NonFiniteError,
    PoisonedStateError,
    ResourceExhaustedError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tidegate.serve.model import Model
    from tidegate.serve.runner import Runner
    from tidegate.serve.settings import Settings


class Window(NamedTuple):
    """Observations of one series: little-endian float32 [rows, features]."""

    rows: int
    values: bytes


async def forecast_windows(
    model: Model,
    windows: Sequence[Window],
    runner: Runner,
    settings: Settings,
    connection: str = "",
) -> NDArray[np.float32]:
    """The forecast after the last row of each window, float32 [windows, V].

    Args:
        model: A forecaster.
        windows: What is known of each series.
        runner: Runs it.
        settings: Limits.
        connection: See `Runner.run`.

    Raises:
        ServingError: The model does not forecast, or a window is wrong; the text
            names the window by its index.
    """
    model.require_forecasting()
    if len(windows) > settings.max_windows:
        raise ResourceExhaustedError(
            f"{len(windows)} windows are over the limit of {settings.max_windows} "
            "(--max-windows): send them in several requests"
        )
    for index, window in enumerate(windows):
        _check_size(model, index, window, settings.max_window_rows)
    result = np.empty((len(windows), model.forecast_size), "<f4")
    lengths = np.array([window.rows for window in windows], np.int64)
    values = np.frombuffer(b"".join([window.values for window in windows]), "<f4")
    values = model.readable(values).reshape(-1, model.features)
    _check_values(model, values, lengths)

    def take(members: NDArray[np.int64], outputs: dict[str, NDArray[Any]]) -> None:
        last = outputs["quantiles"][np.arange(len(members)), lengths[members] - 1]
        result[members] = last.reshape(len(members), -1)

    await runner.run(model, {"x": values}, lengths, take, connection)
    _check_forecasts(result)
    return result


def _check_size(model: Model, index: int, window: Window, limit: int) -> None:
    if window.rows == 0:
        raise InvalidArgumentError(f"window {index} has no rows: send at least one observation")
    if window.rows > limit:
        raise ResourceExhaustedError(
            f"window {index} has {window.rows} rows, over the limit of {limit} "
            "(--max-window-rows): send the last rows only"
        )
    want = 4 * window.rows * model.features
    if len(window.values) != want:
        raise InvalidArgumentError(
            f"window {index} has {len(window.values)} bytes of values; {window.rows} rows of "
            f"{model.features} features are {want} bytes of float32"
        )


def _check_values(model: Model, values: NDArray[Any], lengths: NDArray[np.int64]) -> None:
    bad = ~(np.isfinite(values) | (np.isnan(values) & model.allow_missing))
    if not bad.any():
        return
    row, feature = (int(index) for index in np.argwhere(bad)[0])
    ends = np.cumsum(lengths)
    window = int(np.searchsorted(ends, row, side="right"))
    raise NonFiniteError(
        f"window {window}, row {row - int(ends[window] - lengths[window])}, "
        f"{model.unreadable(feature, values[row, feature])}"
    )


def _check_forecasts(forecasts: NDArray[np.float32]) -> None:
    finite = np.isfinite(forecasts).all(axis=1)
    if not finite.all():
        raise PoisonedStateError(
            f"the forecast of window {int(np.argmin(finite))} is not finite: "
            "check its values for extremes"
        )
