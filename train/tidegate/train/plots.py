"""Figures for reports, without any state of pyplot's.

Dimensions: N origins, horizon, K targets, Q quantiles, C labels.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tidegate.train.data.series import Timestamps
from tidegate.train.evaluate.backtest import Backtest
from tidegate.train.evaluate.forecasting import interval_percent

BLUE, ORANGE, GREY = "#1f5f99", "#d95f02", "#444444"


def forecast_figure(test: Backtest, *, target: str | None = None, history: int = 104) -> Figure:
    """Draws history, truth, median and interval of a backtest.

    Forecasts of one whole horizon follow each other, each made with what was
    known at its dot; between them nothing was corrected.

    Args:
        test: from :func:`tidegate.train.evaluate.backtest.backtests`.
        target: its name; None: the first.
        history: rows to show before the first forecast.
    """
    column = 0 if target is None else test.targets.index(target)
    series, name = test.series, test.targets[column]
    feature = series.features.index(name)
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    axes = figure.subplots()
    start = max(int(test.origins[0]) - history, 0)
    values, times = series.values[:, feature], series.timestamps
    split = int(test.origins[0]) + 1
    axes.plot(times[start:split], values[start:split], color=GREY, lw=1.2, label="history")
    axes.plot(times[split - 1 :], values[split - 1 :], color=GREY, lw=1.2, ls=":", label="truth")
    for index in range(0, len(test.origins), test.horizon):
        _draw_forecast(axes, test, index, column, times, values, labelled=index == 0)
    unit = series.units[feature] if series.units else ""
    axes.set_ylabel(f"{name} ({unit})" if unit else name)
    axes.set_title(f"{series.name}: {test.horizon} steps ahead, made at each dot", loc="left")
    axes.legend(loc="upper left", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


# More names than this cannot be read; tables tell the rest.
MOST_LABELS = 40


def confusion_figure(counts: NDArray[np.int64], names: Sequence[str]) -> Figure:
    """Draws a confusion matrix, each row as shares of its right label.

    Args:
        counts: [C, C], rows are right labels, columns given ones.
        names: of the C labels.
    """
    size = max(4.0, 0.5 * len(names) + 2.0)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    for row, column in zip(*np.nonzero(counts), strict=True):
        color = "white" if shares[row, column] > 0.5 else GREY
        text = str(counts[row, column])
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    ticks = np.arange(len(names))
    axes.set_xticks(ticks, names, rotation=90)
    axes.set_yticks(ticks, names)
    axes.set_xlabel("label given")
    axes.set_ylabel("right label")
    axes.spines[:].set_visible(False)
    return figure


def horizon_figure(table: pd.DataFrame) -> Figure:
    """Draws the error of model and baselines by steps ahead.

    Args:
        table: ``by_horizon`` of :func:`tidegate.train.evaluate.forecasting.score`.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for column, color, style in (
        ("mae", BLUE, "-"),
        ("mae_last_value", ORANGE, "-"),
        ("mae_seasonal_naive", GREY, "-"),
        ("mae_ridge", GREY, ":"),
    ):
        if column in table:
            axes.plot(table["step"], table[column], color=color, ls=style, label=column)
    axes.set_xlabel("steps ahead")
    axes.set_ylabel("mean absolute error")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def frequency_figure(table: pd.DataFrame) -> Figure:
    """Draws a language model's perplexity by how often the training part has a token.

    Args:
        table: from :meth:`tidegate.train.evaluate.language.TokenLosses.by_frequency`.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    names = [f"{low:,} to {high:,}" for low, high in zip(table["from"], table["to"], strict=True)]
    bars = axes.bar(names, table["perplexity"], color=BLUE)
    axes.bar_label(bars, [f"{share:.1%}" for share in table["share"]], color=GREY)
    axes.set_yscale("log")
    axes.set_xlabel("occurrences in the training part; above, the share of the tokens")
    axes.set_ylabel("perplexity")
    axes.tick_params(axis="x", labelrotation=30)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def pixels(figure: Figure) -> NDArray[np.uint8]:
    """A figure as an image, uint8 [height, width, 3]."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="rgba")
    width, height = figure.canvas.get_width_height()
    image = np.frombuffer(buffer.getvalue(), np.uint8).reshape(height, width, 4)
    return np.ascontiguousarray(image[..., :3])


def save(figure: Figure, path: str | Path) -> Path:
    """Writes a figure as PNG; its folder is made. Returns the path."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, format="png", dpi=150)
    return file


def _draw_forecast(
    axes: Axes,
    test: Backtest,
    index: int,
    column: int,
    times: Timestamps,
    values: NDArray[np.float64],
    *,
    labelled: bool,
) -> None:
    """One horizon, joined to the value known at its origin."""
    origin = int(test.origins[index])
    when = times[origin : origin + test.horizon + 1]
    fan = np.vstack([np.full(len(test.levels), values[origin]), test.quantiles[index, :, column]])
    percent = interval_percent(test.levels)
    axes.fill_between(
        when,
        fan[:, 0],
        fan[:, -1],
        color=BLUE,
        alpha=0.2,
        lw=0,
        label=f"{percent} % interval" if labelled else None,
    )
    median = fan[:, test.levels.index(0.5)]
    axes.plot(when, median, color=BLUE, lw=1.5, label="median" if labelled else None)
    axes.plot(when[:1], values[origin : origin + 1], "o", color=ORANGE, ms=3)
