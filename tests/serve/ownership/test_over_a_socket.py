"""The same over a real socket: kept, lost, given way and taken over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.ownership import values
from support.server import running_server
from support.streams import RawStream
from tidegate.client import AbortedError, AlreadyExistsError, Client, NotFoundError
from tidegate.serve.errors import Code

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
