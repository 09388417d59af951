"""Streams over a real server and a real client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from support.streams import Wire
from tidegate.serve.service import Service
from tidegate.serve.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

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


async def test_a_series_that_begins_anew_may_count_from_any_offset(models: Path) -> None:
    service = Service(Settings(models=models, provider="cpu"))
    wire = Wire(service)
    (response,) = await wire.start_responses("gru", "a", first_offset=1_000)
    assert response.started.series[0].next_offset == 1_000
    assert response.started.forecast == service.repository.get("gru").spec.forecast
    (answer,) = await wire.observe(0, 1_000, series(2))
    assert answer.forecasts.offsets == [1_001]
    # What goes on, goes on where it is.
    (response,) = await wire.start_responses("gru", "a", take_over=True, first_offset=5)
    assert response.started.series[0].next_offset == 1_002
    assert not response.started.HasField("forecast")
    (error,) = await wire.start_refused("gru", "b", first_offset=2**63 + 1)
    assert error.message.startswith("series 'b': first_offset is 9223372036854775809, the largest")
    service.close()
