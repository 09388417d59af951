"""Which server is asked, and when again."""

from __future__ import annotations

import numpy as np
import pytest

from support.memory_driver import MemoryDriver
from support.protocol import exchange, protocol_of, undisturbed, values
from support.streams import Wire
from tidegate.client import Retry, UnavailableError
from tidegate.serve.service import Service


async def test_a_draining_server_is_left_at_once_for_another(services: list[Service]) -> None:
    rows = values()
    expected = (await undisturbed(services[0], {"a": 0}))["a"]
    driver, protocol = MemoryDriver(services), protocol_of()
    await driver.do(protocol.open(["a"]))
    await exchange(driver, protocol, {"a": rows[:7]})
    services[0].draining = True
    for response in driver.call.draining(5):
        driver.tell(response)
    await exchange(driver, protocol, {"a": rows[7:9]})
    assert driver.connects == [0, 1]
    assert driver.waits == []
    assert services[0].calls == ()
    last = await exchange(driver, protocol, {"a": rows[9:20]})
    np.testing.assert_array_equal(last["a"][0], expected[19])
    await driver.close(protocol)


async def test_with_one_server_a_notice_of_its_end_changes_nothing_yet(
    services: list[Service],
) -> None:
    driver, protocol = MemoryDriver(services[:1]), protocol_of(1)
    await driver.do(protocol.open(["a"]))
    for response in driver.call.draining(5):
        driver.tell(response)
    await exchange(driver, protocol, {"a": values(2)})
    assert driver.connects == [0]
    await driver.close(protocol)


async def test_servers_are_tried_in_turn_with_full_jitter_until_time_is_up(
    services: list[Service],
) -> None:
    driver = MemoryDriver(services)
    draws = iter([0.5, 1.0, 0.25, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    retry = Retry(
        seconds=8, first=0.1, longest=2.0, clock=lambda: sum(driver.waits), draw=draws.__next__
    )
    protocol = protocol_of(retry=retry)
    await driver.do(protocol.open(["a"]))
    driver.services = [None, None]
    driver.break_off()
    with pytest.raises(UnavailableError, match="the connection was lost"):
        await exchange(driver, protocol, {"a": values(1)})
    # A random part of 0.2, 0.4, 0.8, 1.6, 2, 2, ... seconds.
    assert driver.waits == pytest.approx([0.1, 0.4, 0.2, 1.6, 2.0, 2.0])
    assert driver.connects == [0, 1, 0, 1, 0, 1, 0]
    # It is not given up for ever.
    driver.services = list(services)
    assert set(await exchange(driver, protocol, {"a": values(1)})) == {"a"}
    await driver.close(protocol)


async def test_a_server_that_is_full_is_tried_again(services: list[Service]) -> None:
    driver, protocol = MemoryDriver(services), protocol_of()
    await driver.do(protocol.open(["a"]))
    await exchange(driver, protocol, {"a": values(5)})
    table, _ = services[1].series(services[1].repository.get("gru"))
    room = table.slots._limit
    table.slots._limit = 64
    full = Wire(services[1])
    await full.start("gru", *(f"full-{number}" for number in range(64)))

    def make_room(_: str) -> bool:
        if len(driver.waits) > 2:
            table.slots._limit = room
        return False

    driver.break_off()
    driver.lose = make_room
    driver.services[0] = None
    assert set(await exchange(driver, protocol, {"a": values(1)})) == {"a"}
    assert len(driver.waits) > 2
    await driver.close(protocol)


async def test_the_first_server_that_is_there_is_taken_and_none_is_waited_for(
    services: list[Service],
) -> None:
    driver, protocol = MemoryDriver([None, services[1]]), protocol_of()
    await driver.do(protocol.open(["a"]))
    assert driver.connects == [0, 1]
    await driver.close(protocol)
    driver, protocol = MemoryDriver([None, None]), protocol_of()
    with pytest.raises(UnavailableError):
        await driver.do(protocol.open(["a"]))
    assert (driver.connects, driver.waits) == ([0, 1], [])
