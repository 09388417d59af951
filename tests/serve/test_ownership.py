"""A series belongs to who opened it, from its start until it is finished or dropped."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from support.server import running_server
from support.streams import RawStream, Wire
from tidegate.client import AbortedError, AlreadyExistsError, Client, NotFoundError
from tidegate.serve.checkpoint import CheckpointSigner
from tidegate.serve.errors import (
    AlreadyExistsError as LiveError,
)
from tidegate.serve.errors import Code, PermissionDeniedError, ResourceExhaustedError
from tidegate.serve.model import Model, load_model
from tidegate.serve.opening import Opening
from tidegate.serve.service import Service
from tidegate.serve.settings import Settings
from tidegate.serve.streams import SeriesTable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray


def values(rows: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def model(models: Path) -> Model:
    path = models / "gru" / "1" / "model.onnx"
    return load_model("gru", "1", path, Settings(provider="cpu"))


@pytest.fixture
def table(model: Model, clock: Clock) -> SeriesTable:
    settings = Settings(idle_seconds=60, max_series=3)
    return SeriesTable(model, settings, CheckpointSigner([b"k" * 32]), clock=clock)


def opening(owner: int, key: str = "a", identity: str = "", **options: Any) -> Opening:
    return Opening(owner, identity, key, **options)


def advance(table: SeriesTable, handle: int, offset: int) -> None:
    """As if so many observations had been applied."""
    table.next_offset[handle] = offset
    table.slots.write(handle, [np.full((2, 16), offset, "<f4").tobytes()])


def test_a_kept_series_goes_on_where_it_was(table: SeriesTable) -> None:
    handle = table.start(opening(1)).handle
    advance(table, handle, 7)
    states = table.slots.read(handle)
    table.detach(1)
    assert table.kept == 1
    assert table.start(opening(2)) == (handle, 7, 0)
    assert table.slots.read(handle) == states
    assert table.kept == 0


def test_a_series_is_dropped_when_it_was_kept_for_the_idle_limit(
    table: SeriesTable, clock: Clock
) -> None:
    for owner, key in ((1, "a"), (2, "b")):
        advance(table, table.start(opening(owner, key)).handle, 7)
        table.detach(owner)
        clock.now += 30
    assert table.drop_expired() == pytest.approx(30)
    assert (table.kept, table.slots.used) == (1, 1)
    clock.now += 30
    assert table.drop_expired() is None
    assert (table.kept, table.slots.used) == (0, 0)


def test_the_next_start_of_a_dropped_series_is_told_its_offset_once(
    table: SeriesTable, clock: Clock
) -> None:
    advance(table, table.start(opening(1)).handle, 7)
    table.detach(1)
    clock.now += 60
    table.drop_expired()
    assert table.start(opening(2))[1:] == (0, 7)
    table.finish(2, table.owned_by(2))
    assert table.start(opening(3))[1:] == (0, 0)


def test_the_offset_of_a_dropped_series_is_not_told_to_others(
    table: SeriesTable, clock: Clock
) -> None:
    advance(table, table.start(opening(1, identity="ann")).handle, 7)
    table.detach(1)
    clock.now += 60
    table.drop_expired()
    assert table.start(opening(2, identity="bob"))[1:] == (0, 0)


def test_under_pressure_the_series_kept_longest_is_dropped_and_never_a_live_one(
    table: SeriesTable, clock: Clock
) -> None:
    table.start(opening(9, "live"))
    for owner, key in ((1, "old"), (2, "young")):
        advance(table, table.start(opening(owner, key)).handle, owner)
        table.detach(owner)
        clock.now += 1
    table.start(opening(9, "new"))
    assert (table.kept, table.slots.used) == (1, 3)
    assert table.start(opening(9, "young"))[1:] == (2, 0)
    with pytest.raises(ResourceExhaustedError, match="all 3 series of this model are taken"):
        table.start(opening(9, "old"))
    table.finish(9, [table.owned_by(9)[0]])
    assert table.start(opening(9, "old"))[1:] == (0, 1)


def test_a_finished_series_is_freed_at_once_and_begins_anew(table: SeriesTable) -> None:
    handle = table.start(opening(1)).handle
    advance(table, handle, 7)
    assert table.finish(1, [handle, handle]) == [handle]
    assert (table.kept, table.slots.used) == (0, 0)
    assert table.start(opening(2))[1:] == (0, 0)


def test_a_reset_begins_at_offset_0_whatever_is_kept(table: SeriesTable) -> None:
    handle = table.start(opening(1)).handle
    fresh = table.slots.read(handle)
    advance(table, handle, 7)
    table.detach(1)
    assert table.start(opening(2, reset=True)) == (handle, 0, 0)
    assert table.slots.read(handle) == fresh


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("options", [{}, {"take_over": True}, {"reset": True}])
def test_a_series_of_another_identity_cannot_be_started(
    table: SeriesTable, live: bool, options: dict[str, Any]
) -> None:
    handle = table.start(opening(1, identity="ann")).handle
    advance(table, handle, 7)
    if not live:
        table.detach(1)
    with pytest.raises(PermissionDeniedError, match=r"'a' .* belongs to another identity:"):
        table.start(opening(2, identity="bob", **options))
    table.start(opening(3, identity="ann", take_over=True))
    assert table.next_offset[handle] == 7


def test_a_live_series_is_taken_over_only_when_asked(model: Model) -> None:
    lost: list[tuple[int, str]] = []
    table = SeriesTable(
        model,
        Settings(),
        CheckpointSigner([b"k" * 32]),
        on_lost=lambda owner, _, key, error: lost.append((owner, f"{key}: {error}")),
    )
    handle = table.start(opening(1)).handle
    advance(table, handle, 7)
    with pytest.raises(LiveError, match=r"is live: end the stream .* start it with take_over"):
        table.start(opening(2))
    assert lost == []
    assert table.start(opening(2, take_over=True)) == (handle, 7, 0)
    ((owner, text),) = lost
    assert owner == 1
    assert text.startswith("a: series 'a' of model 'gru' version 1 was taken over by another")
    assert table.owned_by(1) == []
    assert not table.finish(1, [handle])


def test_a_stream_may_start_its_own_series_again_with_the_flag(table: SeriesTable) -> None:
    handle = table.start(opening(1)).handle
    advance(table, handle, 7)
    assert table.start(opening(1, take_over=True, reset=True)) == (handle, 0, 0)
    assert table.owned_by(1) == [handle]


def test_what_is_remembered_of_dropped_series_is_bounded(table: SeriesTable, clock: Clock) -> None:
    for number in range(5):
        advance(table, table.start(opening(number + 1, f"{number}")).handle, 7)
        table.detach(number + 1)
        clock.now += 60
        table.drop_expired()
    assert [table.start(opening(9, key)).dropped_offset for key in "42"] == [7, 7]
    table.finish(9, table.owned_by(9))
    assert table.start(opening(9, "1")).dropped_offset == 0


@pytest.fixture
async def service(models: Path) -> Any:
    service = Service(Settings(models=models, provider="cpu"))
    yield service
    service.close()


async def test_nobody_else_steps_resets_or_finishes_a_series(service: Service) -> None:
    ann, bob = Wire(service, "ann"), Wire(service, "bob")
    (handle,) = await ann.start("gru", "a")
    await ann.observe(handle, 0, values(2))
    await bob.start("gru", "b")
    refusals = [
        *await bob.start_refused("gru", "a"),
        *await bob.start_refused("gru", "a", take_over=True),
        *await bob.start_refused("gru", "a", reset=True, take_over=True),
    ]
    assert [error.code for error in refusals] == [Code.PERMISSION_DENIED] * 3
    for responses in (
        await bob.observe(handle, 2, values(1)),
        await bob.checkpoint(handle),
        await bob.finish(handle),
    ):
        assert responses[0].error.code == Code.NOT_FOUND
    (token,) = (await ann.checkpoint(handle))[0].checkpoints.checkpoints
    assert token.next_offset == 2


async def test_a_checkpoint_of_another_identity_is_refused(service: Service) -> None:
    ann, bob = Wire(service, "ann"), Wire(service, "bob")
    (handle,) = await ann.start("gru", "a")
    token = (await ann.checkpoint(handle))[0].checkpoints.checkpoints[0].token
    await ann.finish(handle)
    (error,) = await bob.start_refused("gru", "a", checkpoint=token)
    assert error.code == Code.PERMISSION_DENIED
    assert error.message == "the checkpoint belongs to another identity: use one of your own"


async def test_the_loser_of_a_series_is_told_at_once_and_for_each_chunk(service: Service) -> None:
    older, newer = Wire(service, "ann"), Wire(service, "ann")
    (handle,) = await older.start("gru", "a")
    await older.observe(handle, 0, values(2))
    assert await newer.start("gru", "a", take_over=True) == [handle]
    (notice,) = older.notices
    chunk, _ = await older.observe(handle, 2, values(1))
    finish, finished = await older.finish(handle)
    for response in (notice, chunk, finish):
        assert (response.error.key, response.error.code) == ("a", Code.ABORTED)
        assert "start it here again with take_over" in response.error.message
    assert not finished.finished.handles
    (answer,) = await newer.observe(handle, 2, values(1))
    assert answer.forecasts.offsets == [2]


async def test_a_series_may_be_taken_back(service: Service) -> None:
    first, second = Wire(service), Wire(service)
    (handle,) = await first.start("gru", "a")
    await second.start("gru", "a", take_over=True)
    await first.start("gru", "a", take_over=True)
    assert len(second.notices) == 1
    (answer,) = await first.observe(handle, 0, values(1))
    assert answer.forecasts.offsets == [0]


@pytest.fixture
def target(models: Path) -> Iterator[str]:
    with running_server(models, max_series=2) as address:
        yield address


def test_over_a_socket_the_loser_hears_of_it_while_it_is_idle(target: str) -> None:
    with RawStream(target) as older, RawStream(target) as newer:
        (handle,) = older.start("gru", "a")
        newer.start("gru", "a", take_over=True)
        notice = older.receive().error
    assert (notice.handle, notice.key, notice.code) == (handle, "a", Code.ABORTED)


def test_after_a_lost_connection_the_series_goes_on_without_a_token(target: str) -> None:
    rows = values(6)
    stream = RawStream(target)
    (handle,) = stream.start("gru", "a")
    stream.observe(handle, 0, rows[:4])
    stream.receive()
    stream.cancel()
    with Client(target) as client:
        # The server learns of the loss through its socket; the flag does not wait for it.
        with RawStream(target) as again:
            again.start("gru", "a", reset=False, take_over=True)
            assert again.started[0].next_offset == 4
            again.observe(handle, 4, rows[4:])
            last = again.receive().forecasts.quantiles
        assert last == client.forecast("gru", [rows])[0].tobytes()


def test_a_stream_that_only_ends_keeps_its_series_and_one_that_finishes_does_not(
    target: str,
) -> None:
    with Client(target) as client:
        for keep, offset in ((True, 1), (False, 0)):
            stream = client.stream("gru", ["a"])
            stream.step("a", values(1)[0])
            stream.close(keep=keep)
            with client.stream("gru", ["a"]) as again:
                assert again.next_offset("a") == offset


def test_a_block_that_ends_in_an_exception_keeps_its_series(target: str) -> None:
    with Client(target) as client:
        first = client.stream("gru", ["a"])
        first.step("a", values(1)[0])
        with pytest.raises(AlreadyExistsError), first:
            first.start(["a"])
        with client.stream("gru", ["a"]) as again:
            assert again.next_offset("a") == 1


def test_kept_series_give_way_to_live_ones_over_a_socket(target: str) -> None:
    with Client(target) as client:
        for key in ("old", "young"):
            stream = client.stream("gru", [key])
            stream.step(key, values(1)[0])
            stream.close(keep=True)
        with client.stream("gru", ["new"]), client.stream("gru", ["young"]) as young:
            assert young.next_offset("young") == 1


def test_a_client_whose_series_was_taken_over_is_told_why(target: str) -> None:
    with Client(target) as client:
        older = client.stream("gru", ["a"])
        with pytest.raises(AlreadyExistsError, match="start it with take_over"):
            client.stream("gru", ["a"])
        with client.stream("gru", ["a"], take_over=True) as newer:
            with pytest.raises(AbortedError, match="was taken over by another stream"):
                older.step("a", values(1)[0])
            with pytest.raises(NotFoundError, match="is not live in this stream"):
                older.step("a", values(1)[0])
            newer.step("a", values(1)[0])
        older.close()


async def test_kept_series_are_dropped_without_anybody_asking(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(Settings(models=models, provider="cpu", idle_seconds=0.001))
    stream = Wire(service)
    await stream.start("gru", "a")
    table, _ = service.series(service.repository.get("gru"))
    freed = asyncio.Event()
    monkeypatch.setattr(table.slots, "release", lambda _: freed.set())
    service.close_stream(stream.call)
    await freed.wait()
    assert table.kept == 0
    service.close()
