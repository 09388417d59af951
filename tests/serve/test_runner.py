"""Requests that keep no state share runs, in turn, and each gets its own answers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from support import onnx_models
from support.executor import HeldExecutor, turns
from tidegate.serve.errors import ServingError
from tidegate.serve.model import Model
from tidegate.serve.runner import Runner
from tidegate.serve.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Lengths = list[int]


@pytest.fixture(scope="module")
def model(models: Path) -> Model:
    return onnx_models.load(models, "gru")


def windows(lengths: Lengths, seed: int = 0) -> list[NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    return [random.normal(size=(length, 3)).astype(np.float32) for length in lengths]


async def run(runner: Runner, model: Model, rows: list[NDArray[np.float32]]) -> list[Any]:
    """The forecast after the last row of each window."""
    lengths = np.array([len(one) for one in rows], np.int64)
    answers: list[Any] = [None] * len(rows)

    def take(members: NDArray[np.int64], outputs: dict[str, NDArray[Any]]) -> None:
        assert "h_next" not in outputs
        for row, member in enumerate(members.tolist()):
            assert answers[member] is None
            answers[member] = outputs["quantiles"][row, lengths[member] - 1]

    values = np.concatenate(rows) if rows else np.zeros((0, 3), np.float32)
    await runner.run(model, {"x": values}, lengths, take)
    return answers


def alone(model: Model, rows: NDArray[np.float32]) -> Any:
    feeds = {"x": rows[None], "lengths": np.array([len(rows)], np.int32)}
    feeds["h"] = np.zeros((2, 1, 16), np.float32)
    return model.session.run(feeds)["quantiles"][0, -1]


@given(
    requests=st.lists(st.lists(st.integers(1, 20), max_size=8), min_size=1, max_size=6),
    max_batch=st.integers(1, 12),
    max_rows=st.integers(1, 60),
)
@hypothesis_settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_request_gets_its_own_answers_bit_for_bit(
    model: Model, requests: list[Lengths], max_batch: int, max_rows: int
) -> None:
    async def check() -> None:
        executor = HeldExecutor()
        executor.release_at_once = True
        settings = Settings(max_batch=max_batch, max_batch_rows=max_rows)
        runner = Runner(settings, executor)
        rows = [windows(lengths, seed) for seed, lengths in enumerate(requests)]
        answers = await asyncio.gather(*(run(runner, model, one) for one in rows))
        for own_rows, own_answers in zip(rows, answers, strict=True):
            for one, answer in zip(own_rows, own_answers, strict=True):
                np.testing.assert_array_equal(answer, alone(model, one))

    asyncio.run(check())


async def test_requests_that_come_together_share_a_run(model: Model) -> None:
    executor = HeldExecutor()
    runner = Runner(Settings(), executor)
    before = model.stats.rows.total
    tasks = [asyncio.create_task(run(runner, model, windows([5, 7]))) for _ in range(3)]
    await turns()
    assert executor.waiting == 1
    executor.release()
    await asyncio.gather(*tasks)
    # Six windows, padded to the longest.
    assert model.stats.rows.total - before == 6 * 7


async def test_a_small_request_waits_for_one_run_of_a_large_one(model: Model) -> None:
    executor = HeldExecutor()
    runner = Runner(Settings(max_batch=1), executor)
    large = asyncio.create_task(run(runner, model, windows([4] * 10)))
    await turns()
    small = asyncio.create_task(run(runner, model, windows([4])))
    runs = 0
    while not small.done():
        executor.release()
        runs += 1
        await turns()
    assert runs == 2
    assert not large.done()
    while not large.done():
        executor.release()
        await turns()
    assert all(answer is not None for answer in await large)


async def test_a_request_that_nobody_waits_for_is_not_run(model: Model) -> None:
    executor = HeldExecutor()
    runner = Runner(Settings(max_batch=2), executor)
    gone = asyncio.create_task(run(runner, model, windows([4] * 8)))
    await turns()
    gone.cancel()
    stays = asyncio.create_task(run(runner, model, windows([4])))
    await turns()
    executor.release()
    await turns()
    executor.release()
    await stays
    assert executor.waiting == 0


async def test_a_request_right_after_another_is_answered_too(model: Model) -> None:
    executor = HeldExecutor()
    executor.release_at_once = True
    runner = Runner(Settings(), executor)
    async with asyncio.timeout(10):
        for _ in range(3):
            assert (await run(runner, model, windows([4])))[0] is not None


async def test_a_run_that_fails_fails_the_requests_in_it_and_no_others(
    model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    executor = HeldExecutor(fault=ValueError("secret detail"))
    runner = Runner(Settings(), executor)
    failing = asyncio.create_task(run(runner, model, windows([4])))
    await turns()
    executor.release()
    with pytest.raises(ServingError, match="internal error; the server's log has the details"):
        await failing
    assert "secret detail" in caplog.text
    executor.fault = None
    after = asyncio.create_task(run(runner, model, windows([4])))
    await turns()
    executor.release()
    assert (await after)[0] is not None
