"""The parts below gRPC: series, batches, and their timing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import onnx_models
from support.executor import HeldExecutor, turns
from tidegate.serve.batcher import Batcher
from tidegate.serve.checkpoint import CheckpointSigner
from tidegate.serve.entries import Chunks
from tidegate.serve.errors import ServingError
from tidegate.serve.model import Model
from tidegate.serve.opening import Opening
from tidegate.serve.ragged import padded, ragged_range, split_runs
from tidegate.serve.settings import Settings
from tidegate.serve.streams import SeriesTable

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from pathlib import Path


@pytest.fixture
def model(models: Path) -> Model:
    return onnx_models.load(models, "difference")


def table_of(model: Model, **limits: Any) -> SeriesTable:
    return SeriesTable(model, Settings(**limits), CheckpointSigner([b"k" * 32]))


def start(table: SeriesTable, owner: int, key: str, **options: Any) -> int:
    return table.start(Opening(owner, "", key, **options)).handle


def batcher_of(table: SeriesTable, executor: Executor, **limits: Any) -> Batcher:
    return Batcher(table, Settings(**limits), executor, executor)


def chunk(owner: int, handle: int, offset: int = 0, rows: int = 1) -> Chunks:
    values = np.random.default_rng(owner).normal(size=(rows, 3)).astype(np.float32)
    return Chunks(owner, [handle], [offset], [rows], values.tobytes())


@given(
    lengths=st.lists(st.integers(1, 300), max_size=60).map(lambda x: np.array(x, np.int64)),
    max_batch=st.integers(1, 20),
    max_rows=st.integers(1, 500),
)
def test_runs_hold_every_sequence_once_within_the_limits(
    lengths: np.ndarray[Any, np.dtype[np.int64]], max_batch: int, max_rows: int
) -> None:
    runs = list(split_runs(lengths, max_batch, max_rows))
    assert sorted(np.concatenate([*runs, np.zeros(0, int)]).tolist()) == list(range(len(lengths)))
    for run in runs:
        longest = int(lengths[run].max())
        assert len(run) <= max_batch
        assert len(run) == 1 or len(run) * longest <= max_rows
        assert longest <= 2 * int(lengths[run].min())


def test_ragged_rows_are_cut_out_and_padded_with_the_last() -> None:
    values = np.arange(6, dtype=np.float32)[:, None]
    lengths = np.array([1, 3, 2])
    cut = padded(values, np.array([0, 1, 4]), lengths)
    assert cut[..., 0].tolist() == [[0, 0, 0], [1, 2, 3], [4, 5, 5]]
    assert ragged_range(lengths).tolist() == [0, 0, 1, 2, 0, 1]


async def test_an_idle_server_answers_at_once(model: Model) -> None:
    table = table_of(model)
    batcher = batcher_of(table, HeldExecutor())
    answer = batcher.submit(chunk(1, start(table, 1, "a")))
    # Two turns for others to join, and no timer: the loop has nothing else to do.
    for _ in range(2):
        await asyncio.sleep(0)
    assert answer.done()


async def test_messages_of_one_turn_run_as_one_batch(model: Model) -> None:
    table, executor = table_of(model), HeldExecutor()
    batcher = batcher_of(table, executor, inline_rows=0)
    futures = [batcher.submit(chunk(owner, start(table, owner, f"{owner}"))) for owner in (1, 2, 3)]
    await turns()
    assert executor.waiting == 1
    executor.release()
    outcomes = await asyncio.gather(*futures)
    assert [list(outcome.offsets) for outcome in outcomes] == [[0], [0], [0]]


async def test_a_batch_takes_no_more_than_max_batch_chunks(model: Model) -> None:
    table, executor = table_of(model), HeldExecutor()
    batcher = batcher_of(table, executor, inline_rows=0, max_batch=2)
    futures = [batcher.submit(chunk(owner, start(table, owner, f"{owner}"))) for owner in (1, 2, 3)]
    await turns()
    executor.release()
    await futures[0]
    assert [future.done() for future in futures] == [True, True, False]
    await turns()
    executor.release()
    await futures[2]


async def test_a_run_writes_nothing_to_a_series_that_ended_meanwhile(model: Model) -> None:
    table, executor = table_of(model, max_series=1), HeldExecutor()
    batcher = batcher_of(table, executor, inline_rows=0)
    handle = start(table, 1, "a")
    future = batcher.submit(chunk(1, handle, rows=4))
    await turns()
    table.finish(1, [handle])
    assert start(table, 2, "b") == handle
    before = table.slots.read(handle)
    executor.release()
    (failure,) = (await future).failures
    assert str(failure.error).startswith(f"handle {handle} is not a live series of this stream")
    assert table.slots.read(handle) == before
    assert table.next_offset[handle] == 0


async def test_one_step_does_not_wait_for_a_long_chunk_of_another_stream(model: Model) -> None:
    table, held = table_of(model), HeldExecutor()
    batcher = Batcher(table, Settings(inline_rows=4, long_rows=8), HeldExecutor(), held)
    long = batcher.submit(chunk(1, start(table, 1, "long"), rows=9))
    step = batcher.submit(chunk(2, start(table, 2, "step")))
    assert list((await step).offsets) == [0]
    assert (held.waiting, long.done()) == (1, False)
    held.release()
    assert list((await long).offsets) == [8]


async def test_a_batch_of_short_messages_stays_short(model: Model) -> None:
    table, executor = table_of(model), HeldExecutor()
    batcher = batcher_of(table, executor, inline_rows=0, long_rows=8)
    futures = [
        batcher.submit(chunk(owner, start(table, owner, f"{owner}"), rows=5))
        for owner in range(1, 6)
    ]
    done = []
    for _ in range(3):
        await turns()
        executor.release()
        await turns()
        done.append(sum(future.done() for future in futures))
    assert done == [2, 4, 5]


async def test_a_chunk_that_nobody_waits_for_is_not_applied(model: Model) -> None:
    table = table_of(model)
    batcher = batcher_of(table, HeldExecutor())
    handle = start(table, 1, "a")
    batcher.submit(chunk(1, handle)).cancel()
    await turns()
    assert table.next_offset[handle] == 0


async def test_a_run_that_fails_refuses_its_chunks_with_a_fixed_text(
    model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    table, executor = table_of(model), HeldExecutor(fault=ValueError("secret detail"))
    batcher = batcher_of(table, executor, inline_rows=0)
    handle = start(table, 1, "a")
    future = batcher.submit(chunk(1, handle))
    await turns()
    executor.release()
    (failure,) = (await future).failures
    assert (failure.key, failure.handle) == ("a", handle)
    assert str(failure.error) == "internal error; the server's log has the details"
    assert type(failure.error) is ServingError
    assert "secret detail" in caplog.text
    assert table.next_offset[handle] == 0
