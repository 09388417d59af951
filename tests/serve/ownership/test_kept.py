"""Series without a stream: kept for their next start, dropped by age or for want of room."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from support.ownership import Clock, advance, opening
from support.streams import Wire
from tidegate.serve.errors import ResourceExhaustedError
from tidegate.serve.service import Service
from tidegate.serve.settings import Settings
from tidegate.serve.streams import SeriesTable

if TYPE_CHECKING:
    from pathlib import Path


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


def test_what_is_remembered_of_dropped_series_is_bounded(table: SeriesTable, clock: Clock) -> None:
    for number in range(5):
        advance(table, table.start(opening(number + 1, f"{number}")).handle, 7)
        table.detach(number + 1)
        clock.now += 60
        table.drop_expired()
    assert [table.start(opening(9, key)).dropped_offset for key in "42"] == [7, 7]
    table.finish(9, table.owned_by(9))
    assert table.start(opening(9, "1")).dropped_offset == 0


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
