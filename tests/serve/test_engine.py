"""The parts below gRPC: slots, series, batches, and their timing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.executor import HeldExecutor, turns
from tidegate.serve.batcher import Batcher
from tidegate.serve.checkpoint import CheckpointSigner
from tidegate.serve.entries import Chunks
from tidegate.serve.errors import ResourceExhaustedError, ServingError
from tidegate.serve.model import Model, load_model
from tidegate.serve.ragged import padded, ragged_range, split_runs
from tidegate.serve.settings import Settings
from tidegate.serve.slots import Slots
from tidegate.serve.spec import StateLayout
from tidegate.serve.streams import SeriesTable

if TYPE_CHECKING:
    from pathlib import Path

LAYOUTS = (StateLayout("h", "h_next", 2, 3, 0.0), StateLayout("p", "p_next", 1, 2, float("nan")))


@pytest.fixture
def model(models: Path) -> Model:
    path = models / "difference" / "1" / "model.onnx"
    return load_model("difference", "1", path, Settings(provider="cpu"))


def table_of(model: Model, **limits: Any) -> SeriesTable:
    return SeriesTable(model, Settings(**limits), CheckpointSigner(b"k" * 32))


def chunk(owner: int, handle: int, offset: int = 0, rows: int = 1) -> Chunks:
    values = np.random.default_rng(owner).normal(size=(rows, 3)).astype(np.float32)
    return Chunks(owner, [handle], [offset], [rows], values.tobytes())


def test_slots_grow_by_doubling_and_keep_what_they_hold() -> None:
    slots = Slots(LAYOUTS, limit=200)
    taken = [slots.acquire() for _ in range(64)]
    state = [np.arange(6, dtype="<f4").tobytes(), np.ones(2, "<f4").tobytes()]
    slots.write(taken[5], state)
    assert (slots.size, slots.used) == (64, 64)
    taken.extend(slots.acquire() for _ in range(136))
    assert (slots.size, slots.used) == (200, 200)
    assert slots.read(taken[5]) == state
    with pytest.raises(ResourceExhaustedError, match="all 200 series of this model"):
        slots.acquire()


def test_a_slot_is_reset_to_the_declared_values_before_its_next_owner() -> None:
    slots = Slots(LAYOUTS, limit=1)
    slot = slots.acquire()
    fresh = slots.read(slot)
    slots.write(slot, [b"\x01" * 24, b"\x01" * 8])
    slots.release(slot)
    assert slots.read(slots.acquire()) == fresh
    assert np.isnan(np.frombuffer(fresh[1], "<f4")).all()


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


async def test_messages_of_one_turn_run_as_one_batch(model: Model) -> None:
    table, executor = table_of(model), HeldExecutor()
    batcher = Batcher(table, Settings(inline_rows=0), executor)
    futures = [batcher.submit(chunk(owner, table.start(owner, f"{owner}"))) for owner in (1, 2, 3)]
    await turns()
    assert executor.waiting == 1
    executor.release()
    outcomes = await asyncio.gather(*futures)
    assert [list(outcome.offsets) for outcome in outcomes] == [[0], [0], [0]]


async def test_a_batch_takes_no_more_than_max_batch_chunks(model: Model) -> None:
    table, executor = table_of(model), HeldExecutor()
    batcher = Batcher(table, Settings(inline_rows=0, max_batch=2), executor)
    futures = [batcher.submit(chunk(owner, table.start(owner, f"{owner}"))) for owner in (1, 2, 3)]
    await turns()
    executor.release()
    await futures[0]
    assert [future.done() for future in futures] == [True, True, False]
    await turns()
    executor.release()
    await futures[2]


async def test_a_slot_is_not_reused_while_a_run_may_still_write_to_it(model: Model) -> None:
    table, executor = table_of(model, max_series=2), HeldExecutor()
    batcher = Batcher(table, Settings(inline_rows=0), executor)
    future = batcher.submit(chunk(1, table.start(1, "a"), rows=4))
    await turns()
    future.cancel()
    (ended,) = batcher.end(1, table.owned_by(1))
    again = table.start(2, "a")
    assert again != ended
    before = table.slots.read(again)
    executor.release()
    await turns()
    assert table.slots.read(again) == before
    assert table.start(3, "b") == ended
    assert table.slots.read(ended) == before


async def test_a_chunk_that_nobody_waits_for_is_not_applied(model: Model) -> None:
    table = table_of(model)
    batcher = Batcher(table, Settings(), HeldExecutor())
    handle = table.start(1, "a")
    batcher.submit(chunk(1, handle)).cancel()
    await turns()
    assert table.next_offset[handle] == 0


async def test_a_run_that_fails_refuses_its_chunks_with_a_fixed_text(
    model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    table, executor = table_of(model), HeldExecutor(fault=ValueError("secret detail"))
    batcher = Batcher(table, Settings(inline_rows=0), executor)
    handle = table.start(1, "a")
    future = batcher.submit(chunk(1, handle))
    await turns()
    executor.release()
    (failure,) = (await future).failures
    assert (failure.key, failure.handle) == ("a", handle)
    assert str(failure.error) == "internal error; the server's log has the details"
    assert type(failure.error) is ServingError
    assert "secret detail" in caplog.text
    assert table.next_offset[handle] == 0
