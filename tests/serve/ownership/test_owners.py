"""Live series are their owner's: others are refused, or take them over where they ask to."""

from __future__ import annotations

from typing import Any

import pytest

from support.ownership import advance, opening, values
from support.streams import Wire
from tidegate.serve.checkpoint import CheckpointSigner
from tidegate.serve.errors import AlreadyExistsError, Code, PermissionDeniedError
from tidegate.serve.model import Model
from tidegate.serve.service import Service
from tidegate.serve.settings import Settings
from tidegate.serve.streams import SeriesTable


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
    with pytest.raises(
        AlreadyExistsError, match=r"is live: end the stream .* start it with take_over"
    ):
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
