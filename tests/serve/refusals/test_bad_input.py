"""What is wrong in itself: its code, its text, and that nothing else is disturbed."""

from __future__ import annotations

import grpc
import numpy as np
import pytest

from support.refusals import assert_refused, values
from support.streams import RawStream
from tidegate.client import (
    AlreadyExistsError,
    Client,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ServerError,
)
from tidegate.v1 import inference_pb2 as pb

Code = grpc.StatusCode


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


def test_an_empty_sentence_is_refused_by_its_index(client: Client) -> None:
    with pytest.raises(InvalidArgumentError, match="sentence 1 is empty"):
        client.annotate("labeller", [["a"], []])


def test_an_empty_window_is_refused_by_its_index(client: Client) -> None:
    with pytest.raises(InvalidArgumentError, match="window 0 has no rows"):
        client.forecast("gru", [np.zeros((0, 3))])
