"""The rules by which a client resumes, against real services, with faults at any moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.memory_driver import MemoryDriver
from support.protocol import ROWS, exchange, protocol_of, undisturbed, values
from support.streams import Wire
from tidegate.client import (
    AbortedError,
    ClientError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
)
from tidegate.serve.service import Service
from tidegate.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("every_step", [False, True])
@pytest.mark.parametrize(
    "moment", ["before the server has it", "after the server has it", "before an answer"]
)
async def test_a_connection_lost_at_any_message_loses_and_doubles_nothing(
    services: list[Service], moment: str, every_step: bool
) -> None:
    """At each single message in turn, over some chunks of two series."""
    keys = {"a": 1, "b": 2}
    expected = await undisturbed(services[0], keys)
    lost_at = 0
    while True:
        driver = MemoryDriver(services)
        protocol = protocol_of(every_step=every_step)
        await driver.do(protocol.open(list(keys), reset=True))
        count = 0

        def lose(where: str) -> bool:
            nonlocal count
            count += where == moment
            return count == lost_at + 1 and where == moment  # noqa: B023 - used in this round only

        driver.lose = lose
        for start in range(0, 30, 3):
            chunks = {key: values(seed=seed)[start : start + 3] for key, seed in keys.items()}
            for key, forecasts in (await exchange(driver, protocol, chunks)).items():
                rows = slice(start, start + 3) if every_step else slice(start + 2, start + 3)
                np.testing.assert_array_equal(forecasts, expected[key][rows])
        await driver.close(protocol)
        if count <= lost_at:
            break
        lost_at += 1
    assert lost_at >= 10


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_chunking_with_any_faults_gives_every_forecast_once(
    services: list[Service], data: st.DataObject
) -> None:
    every = data.draw(st.integers(1, 9), label="checkpoint_every")
    every_step = data.draw(st.booleans(), label="every_step")
    faults = data.draw(st.lists(st.integers(0, 12), max_size=12), label="messages between faults")
    keys = {"a": 1, "b": 2, "c": 3}

    async def run(driver: MemoryDriver) -> None:
        expected = await undisturbed(services[0], keys)
        protocol = protocol_of(checkpoint_every=every, every_step=every_step)
        await driver.do(protocol.open(list(keys), reset=True))
        left = list(faults)

        def lose(_: str) -> bool:
            if not left:
                return False
            left[0] -= 1
            return left[0] < 0 and left.pop(0) < 0

        driver.lose = lose
        at = dict.fromkeys(keys, 0)
        while min(at.values()) < ROWS:
            behind = [key for key in keys if at[key] < ROWS]
            lengths = {key: data.draw(st.integers(0, ROWS - at[key]), label=key) for key in behind}
            chunks = {
                key: values(seed=keys[key])[at[key] : at[key] + length]
                for key, length in lengths.items()
                if length
            }
            forecasts = await exchange(driver, protocol, chunks) if chunks else {}
            assert set(forecasts) == set(chunks)
            for key, rows in chunks.items():
                first = at[key] if every_step else at[key] + len(rows) - 1
                at[key] += len(rows)
                np.testing.assert_array_equal(forecasts[key], expected[key][first : at[key]])
                assert protocol.series[key].next_offset == at[key]
                assert sum(map(len, protocol.series[key].kept)) < every

    async def run_and_leave() -> None:
        driver = MemoryDriver(services)
        try:
            await run(driver)
        finally:
            # What Hypothesis cuts short must not be live in its next example.
            driver.break_off()

    asyncio.run(run_and_leave())


async def test_what_is_kept_is_bounded_by_the_checkpoints(services: list[Service]) -> None:
    driver, protocol = MemoryDriver(services), protocol_of(checkpoint_every=5)
    await driver.do(protocol.open(["a"]))
    kept = []
    for row in values():
        await exchange(driver, protocol, {"a": row[None]})
        kept.append(sum(map(len, protocol.series["a"].kept)))
    assert max(kept) == 4
    await driver.close(protocol)


async def test_without_checkpoints_nothing_is_kept_and_the_loss_is_raised(
    services: list[Service],
) -> None:
    driver, protocol = MemoryDriver(services), protocol_of(checkpoint_every=0)
    await driver.do(protocol.open(["a"]))
    await exchange(driver, protocol, {"a": values(3)})
    assert protocol.series["a"].kept == ()
    driver.break_off()
    with pytest.raises(UnavailableError, match="the connection was lost"):
        await exchange(driver, protocol, {"a": values(1)})


async def test_a_series_that_went_to_another_stream_is_not_taken_back(
    services: list[Service],
) -> None:
    driver, protocol = MemoryDriver(services), protocol_of()
    await driver.do(protocol.open(["a", "b"]))
    other = Wire(services[0], "ann")
    await other.start("gru", "a", take_over=True)
    answer = await driver.do(protocol.exchange({"a": values(1), "b": values(1)}))
    assert [type(error) for error in answer.errors] == [AbortedError]
    assert set(answer.forecasts) == {"b"}
    with pytest.raises(NotFoundError, match="is not live in this stream"):
        await exchange(driver, protocol, {"a": values(1)})
    assert driver.connects == [0]
    await driver.close(protocol)


async def test_a_series_that_cannot_be_resumed_says_why_and_the_others_go_on(
    services: list[Service],
) -> None:
    driver, protocol = MemoryDriver(services), protocol_of()
    await driver.do(protocol.open(["a", "b"]))
    await exchange(driver, protocol, {"a": values(6), "b": values(6)})
    bob = Wire(services[1], "bob")
    await bob.start("gru", "a")
    driver.break_off()
    driver.services[0] = None
    answer = await driver.do(protocol.exchange({"a": values(1), "b": values(1)}))
    assert [type(error) for error in answer.errors] == [PermissionDeniedError]
    assert set(answer.forecasts) == {"b"}
    assert list(protocol.series) == ["b"]
    await driver.close(protocol)


async def test_a_bad_value_is_raised_once_and_not_tried_again(services: list[Service]) -> None:
    driver, protocol = MemoryDriver(services), protocol_of()
    await driver.do(protocol.open(["a"]))
    bad = np.full((1, 3), np.nan, np.float32)
    with pytest.raises(InvalidArgumentError, match="the value is nan"):
        await exchange(driver, protocol, {"a": bad})
    assert protocol.series["a"].next_offset == 0
    await exchange(driver, protocol, {"a": values(1)})
    assert (driver.connects, driver.waits) == ([0], [])
    await driver.close(protocol)


async def test_a_state_that_only_this_server_has_is_secured_at_once(
    services: list[Service],
) -> None:
    rows = values()
    expected = (await undisturbed(services[0], {"z": 0}))["z"]
    first, protocol = MemoryDriver(services), protocol_of()
    await first.do(protocol.open(["a"]))
    await exchange(first, protocol, {"a": rows[:10]})
    await first.close(protocol, keep=True)
    driver, protocol = MemoryDriver(services), protocol_of()
    await driver.do(protocol.open(["a"]))
    assert protocol.series["a"].next_offset == 10
    assert protocol.series["a"].token
    driver.services[0] = None
    driver.break_off()
    forecasts = await exchange(driver, protocol, {"a": rows[10:12]})
    np.testing.assert_array_equal(forecasts["a"][0], expected[11])
    await driver.close(protocol)


async def test_an_operation_that_was_cut_short_leaves_a_stream_that_works(
    services: list[Service],
) -> None:
    """As by a cancelled task or Ctrl-C: half of an answer must not be taken for the next."""
    rows = values()
    expected = (await undisturbed(services[0], {"a": 0}))["a"]
    driver, protocol = MemoryDriver(services), protocol_of()
    await driver.do(protocol.open(["a"]))
    steps = protocol.exchange({"a": rows[:3]})
    await driver._perform(next(steps))
    steps.close()
    forecasts = await exchange(driver, protocol, {"a": rows[:3]})
    np.testing.assert_array_equal(forecasts["a"][0], expected[2])
    await driver.close(protocol)


async def test_the_callers_array_may_change_after_the_call(services: list[Service]) -> None:
    rows = values()
    expected = (await undisturbed(services[0], {"a": 0}))["a"]
    driver, protocol = MemoryDriver(services), protocol_of()
    await driver.do(protocol.open(["a"]))
    buffer = rows[:3].copy()
    await exchange(driver, protocol, {"a": buffer})
    buffer[:] = 99
    driver.break_off()
    forecasts = await exchange(driver, protocol, {"a": rows[3:5]})
    np.testing.assert_array_equal(forecasts["a"][0], expected[4])
    await driver.close(protocol)


async def test_starts_and_rows_are_sent_in_messages_of_bounded_size(
    services: list[Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.client.messages._MESSAGE_BYTES", 600)
    keys = {f"{number}": number for number in range(12)}
    expected = await undisturbed(services[0], keys)
    driver, protocol = MemoryDriver(services), protocol_of(checkpoint_every=30)
    await driver.do(protocol.open(list(keys), reset=True))
    for start in (0, 10, 20):
        chunks = {key: values(seed=seed)[start : start + 10] for key, seed in keys.items()}
        await exchange(driver, protocol, chunks)
        driver.break_off()
    chunks = {key: values(seed=seed)[30:] for key, seed in keys.items()}
    for key, forecasts in (await exchange(driver, protocol, chunks)).items():
        np.testing.assert_array_equal(forecasts[0], expected[key][39])
    await driver.close(protocol)


ERRORS: list[Callable[[], ClientError]] = [
    lambda: InvalidArgumentError("the whole message"),
    lambda: ResourceExhaustedError("the message is too large"),
]


@pytest.mark.parametrize("error", ERRORS)
async def test_an_error_of_the_call_is_raised_and_the_stream_goes_on_afterwards(
    services: list[Service], error: Callable[[], ClientError]
) -> None:
    driver, protocol = MemoryDriver(services), protocol_of()
    await driver.do(protocol.open(["a"]))
    steps = protocol.exchange({"a": values(1)})
    next(steps)
    with pytest.raises(type(error())):
        steps.throw(error())
    driver.break_off()
    assert set(await exchange(driver, protocol, {"a": values(1)})) == {"a"}
    await driver.close(protocol)


def test_draining_checkpoints_of_unknown_handles_are_ignored() -> None:
    protocol = protocol_of()
    protocol._conversation._save([pb.Checkpoint(handle=9, token=b"x")])
    assert protocol.series == {}
