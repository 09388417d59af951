"""Streams over a real server and a real client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tidegate.client import Client


def series(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)


def test_a_step_returns_quantiles_for_the_whole_horizon(client: Client) -> None:
    with client.stream("gru", ["a"]) as stream:
        assert stream.step("a", series(1)[0]).shape == (4, 1, 3)


def test_steps_of_a_stream_equal_the_forecast_of_the_whole_window(client: Client) -> None:
    rows = series(20)
    for model in ("gru", "lstm", "difference", "gaps"):
        with client.stream(model, ["a"]) as stream:
            for row in rows:
                last = stream.step("a", row)
        np.testing.assert_array_equal(last, client.forecast(model, [rows])[0])
