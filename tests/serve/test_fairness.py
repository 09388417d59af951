"""Nobody waits for what somebody else has sent in heaps."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from support.executor import HeldExecutor, turns
from tidegate.serve.batcher import Batcher
from tidegate.serve.checkpoint import CheckpointSigner
from tidegate.serve.entries import Chunks
from tidegate.serve.fair_queue import FairQueue
from tidegate.serve.forecast import Window, forecast_windows
from tidegate.serve.live_series import LiveSeries
from tidegate.serve.model import load_model
from tidegate.serve.opening import Opening
from tidegate.serve.runner import Runner
from tidegate.serve.settings import Settings
from tidegate.serve.streams import SeriesTable

if TYPE_CHECKING:
    from pathlib import Path

    from tidegate.serve.batch import Outcome

# More messages than four batches hold.
GREEDY, MODEST = range(1, 41), 99
ROW = np.zeros(3, "<f4").tobytes()


class Traffic:
    """Streams with one series each, over two connections, in batches of 8 chunks."""

    def __init__(self, models: Path) -> None:
        settings = Settings(provider="cpu", max_batch=8, inline_rows=0)
        model = load_model("gru", "1", models / "gru" / "1" / "model.onnx", settings)
        self.executor, live = HeldExecutor(), LiveSeries(settings)
        signer = CheckpointSigner([b"k" * 32])
        self.table = SeriesTable(model, settings, signer, live=live)
        self.batcher = Batcher(self.table, settings, self.executor, self.executor)
        self.handles: dict[int, int] = {}
        for stream in (*GREEDY, MODEST):
            live.open(stream, "modest" if stream == MODEST else "greedy")
            self.handles[stream] = self.table.start(Opening(stream, "", f"{stream}")).handle

    def step(self, stream: int) -> asyncio.Future[Outcome]:
        handle = self.handles[stream]
        offset = int(self.table.next_offset[handle])
        return self.batcher.submit(Chunks(stream, [handle], [offset], [], ROW))

    async def run(self) -> None:
        """Ends the run that is under way."""
        self.executor.release()
        await turns()


async def test_a_step_does_not_wait_for_the_backlog_of_another_connection(models: Path) -> None:
    traffic = Traffic(models)
    backlog = [traffic.step(stream) for stream in GREEDY]
    await turns()
    # The first batch is under way; the backlog is four more.
    step = traffic.step(MODEST)
    await traffic.run()
    assert not step.done()
    await traffic.run()
    assert step.done()
    assert sum(one.done() for one in backlog) == 8 + 7


async def test_a_connection_that_always_has_more_to_send_starves_nobody(models: Path) -> None:
    traffic = Traffic(models)
    greedy = {stream: traffic.step(stream) for stream in GREEDY}
    await turns()
    for _ in range(10):
        step = traffic.step(MODEST)
        runs = 0
        while not step.done():
            await traffic.run()
            runs += 1
            # Whatever was answered is sent again, ahead of what the others may send next.
            for stream, answer in greedy.items():
                if answer.done():
                    greedy[stream] = traffic.step(stream)
        assert runs <= 2
    # Nor does the greedy one stand still.
    offsets = traffic.table.next_offset[[traffic.handles[stream] for stream in GREEDY]]
    assert offsets.min() >= 3


async def test_a_request_does_not_wait_for_all_requests_of_another_connection(
    models: Path,
) -> None:
    settings = Settings(provider="cpu", max_batch=1)
    model = load_model("gru", "1", models / "gru" / "1" / "model.onnx", settings)
    executor = HeldExecutor()
    runner = Runner(settings, executor)

    def ask(connection: str) -> asyncio.Task[object]:
        request = forecast_windows(model, [Window(1, ROW)] * 2, runner, settings, connection)
        return asyncio.ensure_future(request)

    greedy = [ask("greedy") for _ in range(20)]
    await turns()
    modest, runs = ask("modest"), 0
    await turns()
    while not modest.done():
        executor.release()
        await turns()
        runs += 1
    # The one under way, then two of its own with one of the other connection before each.
    assert runs == 5
    assert not any(request.done() for request in greedy[2:])
    executor.release_at_once = True
    executor.release()
    await asyncio.gather(*greedy)


@given(senders=st.lists(st.integers(0, 4), max_size=60))
@hypothesis_settings(deadline=None)
def test_senders_take_turns_and_each_gets_its_own_in_order(senders: list[int]) -> None:
    queue: FairQueue[tuple[int, int]] = FairQueue()
    for number, sender in enumerate(senders):
        queue.push(sender, (sender, number))
    in_turn = queue.in_turn()
    taken = [queue.pop() for _ in senders]
    assert in_turn == [(item[0], item) for item in taken]
    assert not queue
    for sender in set(senders):
        own = [place for place, item in enumerate(taken) if item[0] == sender]
        numbers = [taken[place][1] for place in own]
        assert numbers == sorted(numbers)
        # Between two of its own, and before its first, at most one of each other.
        for begin, end in zip([-1, *own], own, strict=False):
            others = [taken[place][0] for place in range(begin + 1, end)]
            assert len(others) == len(set(others))


def test_an_empty_queue_says_so() -> None:
    with pytest.raises(IndexError, match="the queue is empty"):
        FairQueue[int]().pop()
