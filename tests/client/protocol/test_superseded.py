"""A new version of the model: live series begin anew on it, as their callers want."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from support import protocol as shared
from support import publishing
from support.memory_driver import MemoryDriver
from tidegate.client import InvalidArgumentError, Retry, Superseded, SupersededError
from tidegate.client.protocol import Protocol
from tidegate.client.requests import reference
from tidegate.client.targets import Targets
from tidegate.serve.service import Service
from tidegate.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

ROWS = shared.values(30)
NOTICE = pb.StreamForecastResponse(superseded=pb.Superseded(model="gru", version="2", seconds=10))
publish = partial(publishing.publish, name="gru", differenced=True)
protocol_of = partial(shared.protocol_of, history=5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Each test's own, as it publishes into it."""
    publish(tmp_path / "models", "1")
    return tmp_path / "models"


def poll(service: Service) -> None:
    service.repository.apply(service.repository.prepare())


async def exchange(
    driver: MemoryDriver, protocol: Protocol, rows: NDArray[np.float32], key: str = "a"
) -> NDArray[np.float32]:
    return (await shared.exchange(driver, protocol, {key: rows}))[key]


async def alone(service: Service, version: str, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """What one version forecasts after rows that begin a series."""
    targets = Targets(1, Retry(seconds=0))
    model = reference(f"gru/{version}")
    protocol = Protocol(model, targets, checkpoint_every=0, every_step=False)
    driver = MemoryDriver([service])
    await driver.do(protocol.open(["alone"], reset=True))
    last = await exchange(driver, protocol, rows, "alone")
    await driver.close(protocol)
    return last


async def test_series_begin_anew_after_their_history_and_keep_their_offsets(
    services: list[Service], folder: Path
) -> None:
    driver, protocol = MemoryDriver(services), protocol_of()
    await driver.do(protocol.open(["a", "short"]))
    await exchange(driver, protocol, ROWS[:2], "short")
    for start in range(0, 12, 3):
        await exchange(driver, protocol, ROWS[start : start + 3])
    publish(folder, "2")
    poll(services[0])
    driver.tell(NOTICE)
    old = await exchange(driver, protocol, ROWS[12:13])
    # What was under way is still answered by the old version.
    np.testing.assert_array_equal(old, await alone(services[0], "1", ROWS[:13]))
    new = await exchange(driver, protocol, ROWS[13:15])
    assert protocol.model == "gru/2"
    assert protocol.find("a").next_offset == 15
    np.testing.assert_array_equal(new, await alone(services[0], "2", ROWS[8:15]))
    short = await exchange(driver, protocol, ROWS[2:3], "short")
    np.testing.assert_array_equal(short, await alone(services[0], "2", ROWS[:3]))
    assert driver.connects == [0, 0]
    # It is secured like any other: from checkpoints of the new version.
    driver.break_off()
    poll(services[1])
    last = await exchange(driver, protocol, ROWS[15:20])
    np.testing.assert_array_equal(last, await alone(services[0], "2", ROWS[8:20]))
    await driver.close(protocol)


@pytest.mark.parametrize(
    "moment", ["before the server has it", "after the server has it", "before an answer"]
)
async def test_a_connection_lost_at_any_message_of_a_restart_mixes_nothing(
    services: list[Service], folder: Path, moment: str
) -> None:
    before = {"gru": services[0].repository._loaded["gru"]}
    publish(folder, "2")
    poll(services[0])
    after = {"gru": services[0].repository._loaded["gru"]}
    expected = {
        "gru/1": await alone(services[0], "1", ROWS[:12]),
        "gru/2": await alone(services[0], "2", ROWS[5:12]),
    }
    seen: list[str] = []
    while True:
        for service in services:
            service.repository.apply(before)
        driver, protocol = MemoryDriver(services), protocol_of()
        await driver.do(protocol.open(["a", "b"], reset=True))
        await driver.do(protocol.exchange({"a": ROWS[:9], "b": ROWS[9:18]}))
        for service in services:
            service.repository.apply(after)
        driver.tell(NOTICE)
        await exchange(driver, protocol, ROWS[9:10])
        count = 0

        def lose(where: str) -> bool:
            nonlocal count
            count += where == moment
            return count == len(seen) + 1 and where == moment

        driver.lose = lose
        last = await exchange(driver, protocol, ROWS[10:12])
        np.testing.assert_array_equal(last, expected[protocol.model])
        await driver.close(protocol)
        if count <= len(seen):
            break
        seen.append(protocol.model)
    # Lost before it began, the restart waits until the next server asks for it.
    assert seen[0] == "gru/1"
    assert len(seen) >= 4
    assert set(seen[1:]) == {"gru/2"}


async def test_a_lost_stream_goes_on_with_its_version_where_it_is_still_loaded(
    services: list[Service], folder: Path
) -> None:
    driver, protocol = MemoryDriver(services), protocol_of()
    await driver.do(protocol.open(["a"]))
    await exchange(driver, protocol, ROWS[:9])
    publish(folder, "2")
    for service in services:
        poll(service)
    driver.break_off()
    last = await exchange(driver, protocol, ROWS[9:12])
    np.testing.assert_array_equal(last, await alone(services[0], "1", ROWS[:12]))
    # More series join it there, though the name means the new version by now.
    await driver.do(protocol.start(["b"]))
    assert (protocol.model, [*protocol.series]) == ("gru/1", ["a", "b"])
    # The server knows that it is to be replaced.
    assert driver.call.reference == reference("gru")
    await driver.close(protocol)


async def test_a_stream_whose_version_is_gone_everywhere_restarts_without_a_notice(
    services: list[Service], folder: Path
) -> None:
    driver, protocol = MemoryDriver(services), protocol_of()
    await driver.do(protocol.open(["a"]))
    await exchange(driver, protocol, ROWS[:9])
    publish(folder, "2")
    (folder / "gru" / "1" / "model.onnx").unlink()
    for service in services:
        poll(service)
    driver.break_off()
    last = await exchange(driver, protocol, ROWS[9:12])
    np.testing.assert_array_equal(last, await alone(services[0], "2", ROWS[4:12]))
    await driver.close(protocol)
    # Whoever wants no restart is told instead.
    driver, protocol = MemoryDriver(services), protocol_of(on_superseded=None)
    await driver.do(protocol.open(["b"]))
    await exchange(driver, protocol, ROWS[:2], "b")
    publish(folder, "3")
    (folder / "gru" / "2" / "model.onnx").unlink()
    for service in services:
        poll(service)
    driver.break_off()
    with pytest.raises(SupersededError, match=r"no version 2 of model 'gru' any more, but 3"):
        await exchange(driver, protocol, ROWS[2:3], "b")
    driver.break_off()


async def test_the_caller_chooses_what_the_new_version_reads_first(
    services: list[Service], folder: Path
) -> None:
    told: list[Superseded] = []

    def choose(notice: Superseded) -> Mapping[str, ArrayLike]:
        told.append(notice)
        if len(told) == 1:
            raise KeyError("the database is gone")
        return {"a": ROWS[2:9]} if len(told) > 2 else {"a": ROWS[:3, :2]}

    driver, protocol = MemoryDriver(services), protocol_of(on_superseded=choose)
    await driver.do(protocol.open(["a", "b"]))
    await exchange(driver, protocol, ROWS[:9])
    publish(folder, "2")
    for service in services:
        poll(service)

    async def ask() -> NDArray[np.float32]:
        await exchange(driver, protocol, ROWS[:1], "b")
        driver.tell(NOTICE)
        await exchange(driver, protocol, ROWS[:1], "b")
        return await exchange(driver, protocol, ROWS[9:10])

    with pytest.raises(KeyError):
        await ask()
    assert protocol.model == "gru/1"
    with pytest.raises(InvalidArgumentError, match=r"series 'a': rows of 3 features are expected"):
        await ask()
    last = await ask()
    np.testing.assert_array_equal(last, await alone(services[0], "2", ROWS[2:10]))
    assert protocol.find("b").next_offset == 6
    notice = told[-1]
    assert (notice.model, notice.successor) == ("gru/1", "gru/2")
    assert notice.offsets == {"a": 9, "b": 6}
    np.testing.assert_array_equal(notice.history["a"], ROWS[4:9])
    assert notice.features == notice.successor_features
    await driver.close(protocol)
