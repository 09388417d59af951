"""Every refusal: its code, its text, and that nothing else is disturbed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from support.server import running_server
from support.streams import RawStream
from tidegate.client import (
    AlreadyExistsError,
    Client,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    ServerError,
)
from tidegate.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

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


@pytest.fixture(autouse=True)
def bystander(target: str) -> Iterator[None]:
    """Another stream, which must go on with the right numbers whatever a test does."""
    rows = values(2, seed=9)
    with Client(target) as client, client.stream("gru", ["bystander"]) as stream:
        stream.step("bystander", rows[0])
        yield
        after = stream.step("bystander", rows[1])
        np.testing.assert_array_equal(after, client.forecast("gru", [rows])[0])


def values(rows: int, features: int = 3, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, features)).astype(np.float32)


def assert_refused(
    response: pb.StreamForecastResponse, code: grpc.StatusCode, key: str, text: str
) -> pb.SeriesError:
    error = response.error
    assert response.WhichOneof("response") == "error", response
    assert (error.code, error.key) == (code.value[0], key)
    assert text in error.message
    return error


def test_an_unknown_model_is_refused_with_the_list_of_models(client: Client) -> None:
    with pytest.raises(NotFoundError, match=r"no model 'nope'; this server has \['difference',"):
        client.get_model("nope")
    with pytest.raises(NotFoundError, match="no model 'nope'"):
        client.stream("nope", ["a"])


def test_an_unknown_version_or_alias_is_refused_with_the_list(client: Client) -> None:
    with pytest.raises(NotFoundError, match=r"no version '3'; it has \['2', '10'\]"):
        client.get_model("versions/3")
    with pytest.raises(NotFoundError, match=r"no alias 'best'; it has \['champion'\]"):
        client.get_model("versions@best")


def test_a_stream_on_a_bidirectional_model_is_refused_with_the_right_call(client: Client) -> None:
    with pytest.raises(FailedPreconditionError, match=r"bidirectional\): call AnnotateSentences"):
        client.stream("labeller", ["a"])
    with pytest.raises(FailedPreconditionError, match="call AnnotateSentences"):
        client.forecast("labeller", [values(2)])


def test_sentences_on_a_causal_forecaster_are_refused_with_the_right_call(client: Client) -> None:
    with pytest.raises(FailedPreconditionError, match=r"is causal\): call StreamForecast"):
        client.annotate("gru", [["a", "dog"]])


def test_a_chunk_of_the_wrong_width_is_refused_and_the_stream_goes_on(target: str) -> None:
    with RawStream(target) as stream:
        (handle,) = stream.start("gru", "a")
        stream.observe(handle, 0, values(1, features=2))
        text = "values has 8 bytes; 1 rows of 3 features are 12 bytes"
        assert_refused(stream.receive(), Code.INVALID_ARGUMENT, "a", text)
        assert not stream.receive().forecasts.handles
        stream.observe(handle, 0, values(1))
        assert stream.receive().forecasts.offsets == [0]


def test_columns_of_different_lengths_are_refused(target: str) -> None:
    with RawStream(target) as stream:
        (handle,) = stream.start("gru", "a")
        message = pb.Observations(handles=[handle], offsets=[0, 1], values=values(1).tobytes())
        response = stream.ask(observations=message)
        assert_refused(response, Code.INVALID_ARGUMENT, "a", "1 handles, 2 offsets and 0 rows")


def test_values_without_handles_end_the_stream(target: str) -> None:
    with RawStream(target) as stream:
        stream.start("gru", "a")
        stream.send(observations=pb.Observations(values=b"1234"))
        code, text = stream.failure()
        assert code == Code.INVALID_ARGUMENT
        assert "0 rows of 3 features are 0 bytes" in text


def test_a_window_of_the_wrong_width_is_refused(client: Client) -> None:
    with pytest.raises(InvalidArgumentError, match="window 1 has 16 bytes of values; 2 rows of 3"):
        client.forecast("gru", [values(2), values(2, features=2)])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_by_name(target: str, value: float) -> None:
    rows = values(3)
    rows[2, 1] = value
    with RawStream(target) as stream:
        (handle,) = stream.start("gru", "a")
        stream.observe(handle, 0, rows)
        text = f"series 'a', row 2 (offset 2), feature 'feature_1': the value is {value}"
        assert_refused(stream.receive(), Code.INVALID_ARGUMENT, "a", text)
        assert not stream.receive().forecasts.handles
        stream.observe(handle, 0, rows[:2])
        assert stream.receive().forecasts.offsets == [1]


def test_nan_is_taken_where_a_feature_may_be_missing_but_infinity_is_not(client: Client) -> None:
    rows = values(2)
    rows[0, 0] = np.nan
    with client.stream("gaps", ["a"]) as stream:
        assert np.isfinite(stream.send("a", rows)).all()
        with pytest.raises(InvalidArgumentError, match=r"row 0 .*'feature_2': the value is inf$"):
            stream.send("a", [[0, 0, np.inf]])


def test_a_window_with_nan_is_refused_by_name(client: Client) -> None:
    rows = values(3)
    rows[1, 2] = np.nan
    with pytest.raises(InvalidArgumentError, match=r"window 1, row 1, feature 'feature_2'.* nan;"):
        client.forecast("gru", [values(2), rows])


def test_a_series_whose_forecast_overflows_is_stopped_alone(client: Client) -> None:
    small, large = [0.0, 0.0, 0.0], [0.0, 200.0, 0.0]
    with client.stream("explosive", ["a", "b"]) as stream:
        stream.step_many({"a": small, "b": small})
        before = stream.checkpoint("a")
        text = "series 'a': the network's output is not finite before offset 2; the chunk was not"
        with pytest.raises(ServerError, match=text) as refused:
            stream.step_many({"a": large, "b": small})
        assert list(refused.value.forecasts) == ["b"]
        assert (stream.next_offset("a"), stream.next_offset("b")) == (1, 2)
        assert stream.checkpoint("a") == before
        stream.step_many({"a": small, "b": small})
    with pytest.raises(ServerError, match="the forecast of window 1 is not finite"):
        client.forecast("explosive", [[small], [large]])


def test_an_offset_gap_is_refused_with_the_offset_expected(target: str) -> None:
    with RawStream(target) as stream:
        (handle,) = stream.start("gru", "a")
        stream.observe(handle, 5, values(1))
        text = "the chunk starts at offset 5, the offset expected is 0"
        error = assert_refused(stream.receive(), Code.OUT_OF_RANGE, "a", text)
        assert error.expected_offset == 0


def test_an_offset_near_the_end_of_the_numbers_is_a_gap(target: str) -> None:
    with RawStream(target) as stream:
        (handle,) = stream.start("gru", "a")
        stream.observe(handle, 2**64 - 1, values(1))
        assert_refused(stream.receive(), Code.OUT_OF_RANGE, "a", "offset expected is 0")


def test_an_offset_already_applied_is_skipped_without_an_error(target: str) -> None:
    with RawStream(target) as stream:
        (handle,) = stream.start("gru", "a")
        for _ in range(2):
            stream.observe(handle, 0, values(2))
        assert stream.receive().forecasts.offsets == [1]
        assert not stream.receive().forecasts.handles


def test_an_empty_stream_ends_without_an_error(target: str) -> None:
    with RawStream(target) as stream:
        assert stream.end() == (Code.OK, "")


@pytest.mark.parametrize("kind", ["observations", "checkpoint", "finish"])
def test_a_first_message_that_is_not_start_is_refused(target: str, kind: str) -> None:
    messages = {
        "observations": pb.Observations(),
        "checkpoint": pb.CheckpointRequest(),
        "finish": pb.Finish(),
    }
    with RawStream(target) as stream:
        stream.send(**{kind: messages[kind]})
        code, text = stream.failure()
    assert code == Code.FAILED_PRECONDITION
    assert text == f"the first message is {kind}: send `start` with a model first"


def test_an_empty_message_is_refused(target: str) -> None:
    with RawStream(target) as stream:
        stream.send()
        assert stream.failure()[1].startswith("the first message is empty")
    with RawStream(target) as stream:
        stream.start("gru", "a")
        stream.send()
        assert stream.failure()[0] == Code.INVALID_ARGUMENT


def test_a_second_model_on_a_stream_is_refused(target: str) -> None:
    with RawStream(target) as stream:
        stream.start("gru", "a")
        stream.send(start=pb.Start(model=pb.ModelReference(name="lstm")))
        code, text = stream.failure()
    assert code == Code.FAILED_PRECONDITION
    assert "this stream runs model 'gru' version 1" in text


def test_an_unknown_handle_is_refused(target: str) -> None:
    with RawStream(target) as stream:
        stream.start("gru", "a")
        for handle in (40, 2**32 - 1):
            stream.observe(handle, 0, values(1))
            text = f"handle {handle} is not a live series of this stream"
            assert_refused(stream.receive(), Code.NOT_FOUND, "", text)
            stream.receive()
            response = stream.ask(checkpoint=pb.CheckpointRequest(handles=[handle]))
            assert_refused(response, Code.NOT_FOUND, "", text)
            assert not stream.receive().checkpoints.checkpoints
            assert_refused(stream.ask(finish=pb.Finish(handles=[handle])), Code.NOT_FOUND, "", text)
            assert not stream.receive().finished.handles


def test_a_handle_of_another_stream_is_as_good_as_unknown(target: str) -> None:
    with RawStream(target) as mine, RawStream(target) as other:
        (theirs,) = other.start("gru", "theirs")
        mine.start("gru", "mine")
        mine.observe(theirs, 0, values(1))
        assert_refused(mine.receive(), Code.NOT_FOUND, "", f"handle {theirs} is not a live")
        mine.receive()
        assert_refused(mine.ask(finish=pb.Finish(handles=[theirs])), Code.NOT_FOUND, "", "handle")
        other.observe(theirs, 0, values(1))
        assert other.receive().forecasts.offsets == [0]


def test_a_live_key_cannot_be_started_again(client: Client) -> None:
    with client.stream("gru", ["twice"]) as stream:
        with pytest.raises(AlreadyExistsError, match="series 'twice' of model 'gru' version 1 is"):
            client.stream("gru", ["twice"])
        with pytest.raises(AlreadyExistsError, match="use another key"):
            stream.start(["twice"])
        with client.stream("lstm", ["twice"]) as elsewhere:
            assert elsewhere.series == ("twice",)


def test_two_chunks_of_a_series_in_one_message_are_refused_but_for_the_first(target: str) -> None:
    with RawStream(target) as stream:
        a, b = stream.start("gru", "a", "b")
        message = pb.Observations(handles=[a, b, a], offsets=[0, 0, 1], values=values(3).tobytes())
        response = stream.ask(observations=message)
        assert_refused(response, Code.INVALID_ARGUMENT, "a", "two chunks in one message")
        assert stream.receive().forecasts.handles == [a, b]


def test_a_chunk_without_rows_is_refused(target: str) -> None:
    with RawStream(target) as stream:
        (handle,) = stream.start("gru", "a")
        stream.observe(handle, 0, values(0))
        assert_refused(stream.receive(), Code.INVALID_ARGUMENT, "a", "the chunk has no rows")


def test_an_empty_or_long_key_is_refused(small_client: Client) -> None:
    for key in ("", "a" * 9):
        with pytest.raises(InvalidArgumentError, match=f"has {len(key)} bytes: use 1 to 8"):
            small_client.stream("gru", [key])


def test_an_empty_sentence_is_refused_by_its_index(client: Client) -> None:
    with pytest.raises(InvalidArgumentError, match="sentence 1 is empty"):
        client.annotate("labeller", [["a"], []])


def test_an_empty_window_is_refused_by_its_index(client: Client) -> None:
    with pytest.raises(InvalidArgumentError, match="window 0 has no rows"):
        client.forecast("gru", [np.zeros((0, 3))])


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
