"""What is right but too much: its code, its text, and that nothing else is disturbed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from support.refusals import values
from support.server import running_server
from support.streams import RawStream
from tidegate.client import Client, InvalidArgumentError, ResourceExhaustedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Code = grpc.StatusCode


@pytest.fixture(scope="module")
def small(models: Path) -> Iterator[str]:
    """A server with small limits."""
    with running_server(
        models,
        max_streams=2,
        max_series=3,
        max_series_per_stream=2,
        max_message_bytes=4096,
        max_rows_per_chunk=8,
        max_windows=2,
        max_window_rows=8,
        max_sentences=2,
        max_tokens=5,
        max_token_bytes=10,
        max_key_bytes=8,
    ) as address:
        yield address


@pytest.fixture
def small_client(small: str) -> Iterator[Client]:
    with Client(small) as client:
        yield client


def test_an_empty_or_long_key_is_refused(small_client: Client) -> None:
    for key in ("", "a" * 9):
        with pytest.raises(InvalidArgumentError, match=f"has {len(key)} bytes: use 1 to 8"):
            small_client.stream("gru", [key])


def test_requests_over_a_limit_are_refused_with_the_option(small_client: Client) -> None:
    refusals: list[tuple[Callable[[], object], str]] = [
        (lambda: small_client.annotate("labeller", [["a"] * 6]), "6 tokens.*--max-tokens"),
        (lambda: small_client.annotate("labeller", [["a" * 11]]), "11 bytes.*--max-token-bytes"),
        (lambda: small_client.annotate("labeller", [["a"]] * 3), "3 sentences.*--max-sentences"),
        (lambda: small_client.forecast("gru", [values(9)]), "9 rows.*--max-window-rows"),
        (lambda: small_client.forecast("gru", [values(1)] * 3), "3 windows.*--max-windows"),
    ]
    for call, text in refusals:
        with pytest.raises(ResourceExhaustedError, match=text):
            call()


def test_a_chunk_over_the_row_limit_is_refused_and_the_stream_goes_on(
    small_client: Client,
) -> None:
    with small_client.stream("gru", ["a"]) as stream:
        with pytest.raises(ResourceExhaustedError, match="9 rows is over the limit of 8"):
            stream.send("a", values(9))
        stream.send("a", values(8))


def test_a_message_over_the_limit_ends_only_its_own_stream(small: str) -> None:
    with RawStream(small) as other:
        (handle,) = other.start("gru", "other")
        with RawStream(small) as stream:
            (mine,) = stream.start("gru", "a")
            stream.observe(mine, 0, values(400))
            assert stream.failure()[0] == Code.RESOURCE_EXHAUSTED
        other.observe(handle, 0, values(1))
        assert other.receive().forecasts.offsets == [0]


def test_a_message_over_the_limit_is_refused_with_the_option(small_client: Client) -> None:
    windows = [values(8), np.full((400, 3), 1.0)]
    with pytest.raises(ResourceExhaustedError, match=r"larger than max .*--max-message-bytes"):
        small_client.forecast("gru", windows)


def test_too_many_streams_or_series_are_refused_at_once(small_client: Client) -> None:
    with small_client.stream("gru", ["a", "b"]) as first:
        with pytest.raises(ResourceExhaustedError, match="2 series already"):
            first.start(["c"])
        with small_client.stream("gru", ["c"]) as second:
            with pytest.raises(ResourceExhaustedError, match=r"all 3 series .*--max-series"):
                second.start(["d"])
            with pytest.raises(ResourceExhaustedError, match=r"all 2 streams .*--max-streams"):
                small_client.stream("gru", ["e"])
            first.finish("a")
            second.start(["d"])
