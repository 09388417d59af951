"""pandas in and out of the client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from support import onnx_models
from support.server import running_server
from tidegate.client import Client, InvalidArgumentError, aio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("models")
    onnx_models.save(onnx_models.forecaster("gru"), folder, "gru")
    with running_server(folder) as address:
        yield address


@pytest.fixture
def client(target: str) -> Iterator[Client]:
    with Client(target) as connected:
        yield connected


@pytest.fixture
def frame() -> pd.DataFrame:
    """Two series, interleaved, with the columns in another order and one that is not needed."""
    random = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    return pd.DataFrame(
        {
            "feature_2": random[:, 2],
            "unique_id": ["b", "a"] * 5,
            "note": "x",
            "feature_0": random[:, 0],
            "feature_1": random[:, 1],
        }
    )


def rows(frame: pd.DataFrame, name: str) -> np.ndarray:
    part = frame[frame.unique_id == name]
    return part[["feature_0", "feature_1", "feature_2"]].to_numpy(np.float32)


def test_a_long_frame_gives_a_long_frame(client: Client, frame: pd.DataFrame) -> None:
    forecast = client.forecast_frame("gru", frame)
    assert list(forecast.columns) == ["unique_id", "step", "target", "q0.1", "q0.5", "q0.9"]
    assert forecast.unique_id.tolist() == ["b"] * 4 + ["a"] * 4
    assert forecast.step.tolist() == [1, 2, 3, 4] * 2
    assert set(forecast.target) == {"feature_0"}
    expected = client.forecast("gru", [rows(frame, "b"), rows(frame, "a")])
    np.testing.assert_array_equal(
        forecast[["q0.1", "q0.5", "q0.9"]].to_numpy(), expected.reshape(8, 3)
    )


def test_a_stream_takes_frames_and_arrays(client: Client, frame: pd.DataFrame) -> None:
    with client.stream("gru", ["a", "b"], reset=True) as stream:
        stream.send("a", frame[frame.unique_id == "a"].iloc[:2])
        stream.send("b", rows(frame, "b")[:2])
        forecast = stream.send_frame(frame.iloc[4:])
    pd.testing.assert_frame_equal(forecast, client.forecast_frame("gru", frame))


async def test_the_awaited_client_takes_frames(target: str, frame: pd.DataFrame) -> None:
    async with aio.Client(target) as client:
        expected = await client.forecast_frame("gru", frame.rename(columns={"unique_id": "k"}), "k")
        async with await client.stream("gru", ["a", "b"], reset=True) as stream:
            forecast = await stream.send_frame(frame)
    pd.testing.assert_frame_equal(forecast, expected.rename(columns={"k": "unique_id"}))


def test_windows_may_be_frames(client: Client, frame: pd.DataFrame) -> None:
    window = frame[frame.unique_id == "a"]
    np.testing.assert_array_equal(
        client.forecast("gru", [window]), client.forecast("gru", [rows(frame, "a")])
    )


def test_a_column_that_is_missing_is_named(client: Client, frame: pd.DataFrame) -> None:
    with pytest.raises(InvalidArgumentError, match=r"not \['feature_1'\]"):
        client.forecast_frame("gru", frame.drop(columns="feature_1"))
    with pytest.raises(InvalidArgumentError, match=r"not \['series'\]"):
        client.forecast_frame("gru", frame, key="series")


def test_a_frame_of_no_rows_gives_one_of_no_rows(client: Client, frame: pd.DataFrame) -> None:
    assert len(client.forecast_frame("gru", frame.iloc[:0])) == 0
