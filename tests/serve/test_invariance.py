"""A forecast depends on its own series only, bit for bit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc.aio
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import onnx_models
from support.streams import RawStream
from tidegate.serve.session import Session
from tidegate.v1 import inference_pb2 as pb
from tidegate.v1 import inference_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tidegate.client import Client

CAUSAL = ["gru", "lstm", "difference"]
ROWS = 24


def values(rows: int = ROWS, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)


@pytest.fixture(scope="module", params=CAUSAL)
def session(request: pytest.FixtureRequest, models: Path) -> Session:
    return Session((models / request.param / "1" / "model.onnx").read_bytes())


def run(session: Session, x: NDArray[np.float32], lengths: NDArray[np.int64]) -> dict[str, Any]:
    """Runs from states that differ from sequence to sequence."""
    random = np.random.default_rng(1)
    feeds = {"x": x, "lengths": lengths.astype(np.int32)}
    for tensor in session.inputs[2:]:
        layers, width = tensor.shape[0] or 0, tensor.shape[2] or 0
        states = random.normal(size=(64, layers, width)).astype(np.float32)
        feeds[tensor.name] = np.ascontiguousarray(states[: len(x)].transpose(1, 0, 2))
    return session.run(feeds)


def test_batch_mates_do_not_change_a_bit_at_any_batch_size(session: Session) -> None:
    x = values(64)[:, None]
    whole = run(session, x, np.ones(64, int))
    for size in range(1, 65):
        part = run(session, x[:size], np.ones(size, int))
        for name, value in part.items():
            full = whole[name][:size] if name == "quantiles" else whole[name][:, :size]
            np.testing.assert_array_equal(value, full, err_msg=f"{name} at batch size {size}")


def test_padding_in_time_does_not_change_a_bit(session: Session) -> None:
    random = np.random.default_rng(2)
    lengths = random.integers(1, 9, 40)
    x = random.normal(size=(40, 8, 3)).astype(np.float32)
    whole = run(session, x, lengths)
    for length in range(1, 9):
        same = np.flatnonzero(lengths == length)
        part = run(session, x[:, :length], np.minimum(lengths, length))
        np.testing.assert_array_equal(
            part["quantiles"][same], whole["quantiles"][same, :length], err_msg=f"{length}"
        )
        for name in set(part) - {"quantiles"}:
            np.testing.assert_array_equal(part[name][:, same], whole[name][:, same], err_msg=name)


@pytest.mark.parametrize("hidden", [8, 33, 64, 128, 256])
@pytest.mark.parametrize("outputs", [(1, (0.5,)), (13, (0.1, 0.5, 0.9))])
def test_the_head_is_the_same_in_every_batch(
    hidden: int, outputs: tuple[int, tuple[float, ...]]
) -> None:
    horizon, quantiles = outputs
    model = onnx_models.forecaster(hidden=hidden, layers=1, horizon=horizon, quantiles=quantiles)
    session = Session(model.SerializeToString())
    x = values(64)[:, None]
    whole = run(session, x, np.ones(64, int))["quantiles"]
    for size in (1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 31, 32, 48, 63):
        part = run(session, x[:size], np.ones(size, int))["quantiles"]
        np.testing.assert_array_equal(part, whole[:size], err_msg=f"batch size {size}")


chunkings = st.lists(st.integers(1, 9), min_size=1, max_size=ROWS)
reuse = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@reuse
@given(chunks=chunkings, model=st.sampled_from(CAUSAL))
def test_any_chunking_of_a_series_gives_the_same_forecasts(
    client: Client, chunks: list[int], model: str
) -> None:
    rows = values()
    bounds = np.cumsum(chunks)[np.cumsum(chunks) < ROWS]
    with client.stream(model, ["whole", "parts"], every_step=True) as stream:
        whole = stream.send("whole", rows)
        parts = [stream.send("parts", part) for part in np.split(rows, bounds)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@reuse
@given(data=st.data(), model=st.sampled_from(CAUSAL))
def test_series_of_one_message_do_not_change_each_other(
    client: Client, data: st.DataObject, model: str
) -> None:
    lengths = data.draw(st.lists(st.integers(1, ROWS), min_size=1, max_size=8))
    chunks = {f"s{i}": values(length, seed=i) for i, length in enumerate(lengths)}
    with client.stream(model, chunks.keys(), every_step=True) as stream:
        together = stream.send_many(chunks)
    for key, rows in chunks.items():
        with client.stream(model, [key], every_step=True) as stream:
            np.testing.assert_array_equal(stream.send(key, rows), together[key])


@reuse
@given(resends=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), max_size=20))
def test_resent_rows_count_once(
    client: Client, target: str, resends: list[tuple[int, int]]
) -> None:
    """Chunks that overlap what was applied give the forecasts of the series sent once."""
    rows = values()
    (expected,) = client.forecast("difference", [rows])
    with RawStream(target) as stream:
        (handle,) = stream.start("difference", "a")
        applied, last = 0, b""
        for back, length in [*resends, (0, ROWS)]:
            start = max(0, min(applied, ROWS - 1) - back)
            end = min(ROWS, start + length)
            stream.observe(handle, start, rows[start:end])
            forecasts = stream.receive().forecasts
            assert list(forecasts.offsets) == ([end - 1] if end > applied else [])
            applied, last = max(applied, end), forecasts.quantiles or last
    assert last == expected.tobytes()


def test_chunks_sent_without_waiting_are_applied_one_after_the_other(
    client: Client, target: str
) -> None:
    rows = values()
    (expected,) = client.forecast("gru", [rows])
    with RawStream(target) as stream:
        (handle,) = stream.start("gru", "ahead")
        for offset in range(ROWS):
            stream.observe(handle, offset, rows[offset : offset + 1])
        answers = [stream.receive().forecasts for _ in range(ROWS)]
    assert [list(answer.offsets) for answer in answers] == [[offset] for offset in range(ROWS)]
    assert answers[-1].quantiles == expected.tobytes()


def test_many_streams_at_once_equal_each_alone(target: str, client: Client) -> None:
    """Real batches: 40 connections step at the same time, with chunks of different lengths."""

    async def one(channel: grpc.aio.Channel, index: int) -> bytes:
        call: Any = pb_grpc.InferenceServiceStub(channel).StreamForecast()
        series = [pb.SeriesStart(key=f"many-{index}")]
        model = pb.ModelReference(name="lstm")
        await call.write(pb.StreamForecastRequest(start=pb.Start(model=model, series=series)))
        handle = (await call.read()).started.series[0].handle
        rows, offset, last = values(seed=index), 0, b""
        while offset < ROWS:
            chunk = rows[offset : offset + 1 + (offset + index) % 3]
            message = pb.Observations(
                handles=[handle], offsets=[offset], rows=[len(chunk)], values=chunk.tobytes()
            )
            await call.write(pb.StreamForecastRequest(observations=message))
            last = (await call.read()).forecasts.quantiles
            offset += len(chunk)
        await call.done_writing()
        return last

    async def all_of_them() -> list[bytes]:
        async with grpc.aio.insecure_channel(target) as channel:
            return await asyncio.gather(*(one(channel, index) for index in range(40)))

    together = asyncio.run(all_of_them())
    alone = client.forecast("lstm", [values(seed=index) for index in range(40)])
    assert together == [forecast.tobytes() for forecast in alone]
