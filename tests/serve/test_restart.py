"""A stream survives its server: kill, drain, checkpoints that are refused."""

from __future__ import annotations

import json
import signal
import socket
from typing import TYPE_CHECKING

import numpy as np
import pytest

from support import onnx_models
from support.server import ServerProcess, running_server
from support.streams import RawStream
from tidegate.client import (
    Client,
    FailedPreconditionError,
    InvalidArgumentError,
    Retry,
    UnavailableError,
)
from tidegate.v1 import checkpoint_pb2

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "checkpoint.key"
    path.write_bytes(bytes(range(32)))
    return path


def values(rows: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)


@pytest.mark.parametrize("model", ["gru", "lstm", "difference"])
def test_a_stream_goes_on_bit_for_bit_after_the_server_was_killed(
    models: Path, key_file: Path, client: Client, model: str
) -> None:
    rows = values(30)
    with client.stream(model, ["undisturbed"], every_step=True) as stream:
        expected = stream.send("undisturbed", rows)
    options = ["--checkpoint-key-file", str(key_file)]
    forecasts = {}
    once = Retry(seconds=0)
    with ServerProcess(models, *options) as server, Client(server.target, retry=once) as first:
        stream = first.stream(model, ["a"], checkpoint_every=7)
        for offset in range(17):
            forecasts[offset] = stream.step("a", rows[offset])
        server.send(signal.SIGKILL)
        assert server.wait()[0] == -signal.SIGKILL
        with pytest.raises(UnavailableError):
            stream.step("a", rows[17])
        stream.close()
    with (
        ServerProcess(models, *options) as server,
        Client(server.target) as second,
        second.stream(model, stream.checkpoints) as resumed,
    ):
        assert resumed.next_offset("a") == 14
        for offset in range(14, 30):
            forecasts[offset] = resumed.step("a", rows[offset])
    np.testing.assert_array_equal([forecasts[i] for i in range(30)], expected)


def test_sigterm_sends_checkpoints_to_live_streams_and_exits_0(
    models: Path, key_file: Path
) -> None:
    rows = values(4)
    options = ["--checkpoint-key-file", str(key_file), "--drain-seconds", "30"]
    with ServerProcess(models, *options) as server, RawStream(server.target) as stream:
        (handle,) = stream.start("gru", "a")
        stream.observe(handle, 0, rows[:2])
        stream.receive()
        server.send(signal.SIGTERM)
        notice = stream.receive().draining
        assert notice.seconds == 30
        (checkpoint,) = notice.checkpoints
        assert (checkpoint.handle, checkpoint.next_offset) == (handle, 2)
        # The live stream may still be used until the deadline.
        stream.observe(handle, 2, rows[2:3])
        assert stream.receive().forecasts.offsets == [2]
        stream.end()
        status, log = server.wait()
        assert status == 0
        records = [json.loads(line) for line in log.splitlines()]
        assert [r["message"] for r in records[-2:]] == ["draining", "call ended"]
    with ServerProcess(models, *options) as server, Client(server.target) as client:
        with client.stream("gru", {"a": checkpoint.token}) as resumed:
            after = resumed.send("a", rows[2:])
        np.testing.assert_array_equal(after[0], client.forecast("gru", [rows])[0])


def test_a_drain_ends_streams_that_stay(models: Path) -> None:
    with (
        ServerProcess(models, "--drain-seconds", "0.2") as server,
        RawStream(server.target) as stream,
    ):
        stream.start("gru", "a")
        server.send(signal.SIGTERM)
        assert stream.receive().WhichOneof("response") == "draining"
        stream.failure()
        assert server.wait()[0] == 0


def test_a_second_sigterm_exits_at_once(models: Path) -> None:
    with (
        ServerProcess(models, "--drain-seconds", "600") as server,
        RawStream(server.target) as stream,
    ):
        stream.start("gru", "a")
        server.send(signal.SIGTERM)
        assert stream.receive().WhichOneof("response") == "draining"
        server.send(signal.SIGTERM)
        assert server.wait()[0] == -signal.SIGTERM


def test_a_checkpoint_is_taken_at_every_kth_observation(client: Client) -> None:
    with client.stream("gru", ["a"], checkpoint_every=3) as stream:
        seen = []
        for row in values(7):
            stream.step("a", row)
            seen.append(stream.checkpoints.get("a"))
    assert seen[:2] == [None, None]
    assert seen[2] == seen[4] != seen[5] == seen[6]


def test_a_finished_key_can_be_started_again_from_its_checkpoint(client: Client) -> None:
    rows = values(5)
    with client.stream("difference", ["a", "b"]) as stream:
        stream.send("a", rows[:3])
        token = stream.checkpoint("a")
        stream.finish("a")
        stream.start({"a": token})
        last = stream.send("a", rows[3:])
        assert stream.next_offset("a") == 5
        assert sorted(stream.checkpoint_all()) == ["a", "b"]
    np.testing.assert_array_equal(last[0], client.forecast("difference", [rows])[0])


def test_a_reused_slot_starts_from_the_initial_state(client: Client) -> None:
    rows = values(4)
    for model in ("lstm", "difference"):
        with client.stream(model, ["first"]) as stream:
            stream.send("first", rows)
        with client.stream(model, ["second"]) as stream:
            fresh = stream.step("second", rows[0])
        np.testing.assert_array_equal(fresh, client.forecast(model, [rows[:1]])[0])


def test_a_damaged_checkpoint_is_refused_and_the_stream_goes_on(client: Client) -> None:
    with client.stream("gru", ["a"]) as stream:
        token = stream.checkpoint("a")
        for damaged in (b"junk", token[:-1], token[:10]):
            with pytest.raises(InvalidArgumentError, match="the checkpoint is damaged"):
                stream.start({"b": damaged})
        flipped = bytearray(token)
        flipped[len(token) // 2] ^= 1
        with pytest.raises(InvalidArgumentError, match="the checkpoint was changed after"):
            stream.start({"b": bytes(flipped)})
        stream.step("a", values(1)[0])


def test_a_checkpoint_signed_with_another_key_is_refused(models: Path, client: Client) -> None:
    with client.stream("gru", ["a"]) as stream:
        token = stream.checkpoint("a")
    with (
        running_server(models) as other,
        Client(other) as stranger,
        pytest.raises(InvalidArgumentError, match="give all replicas the same --checkpoint"),
    ):
        stranger.stream("gru", {"a": token})


def test_a_checkpoint_of_another_series_model_or_version_is_refused(client: Client) -> None:
    with client.stream("gru", ["a"]) as stream:
        token = stream.checkpoint("a")
    with client.stream("versions@champion", ["a"]) as stream:
        assert stream.model == "versions/2"
        versioned = stream.checkpoint("a")
    refusals = [
        ("gru", {"b": token}, "belongs to series 'a', not 'b'"),
        ("lstm", {"a": token}, "belongs to model 'gru', not 'lstm'"),
        ("versions", {"a": versioned}, "belongs to version '2', not '10'"),
    ]
    for model, series, text in refusals:
        with pytest.raises(FailedPreconditionError, match=text):
            client.stream(model, series)


def test_a_checkpoint_of_another_file_with_the_same_name_is_refused(
    tmp_path: Path, key_file: Path
) -> None:
    tokens: list[bytes] = []
    for seed, hidden in ((0, 16), (0, 8)):
        folder = tmp_path / str(hidden)
        onnx_models.save(onnx_models.forecaster(seed=seed, hidden=hidden), folder, "m")
        with (
            running_server(folder, checkpoint_key_file=key_file) as target,
            Client(target) as client,
        ):
            if tokens:
                with pytest.raises(FailedPreconditionError, match="belongs to another file"):
                    client.stream("m", {"a": tokens[0]})
            else:
                with client.stream("m", ["a"]) as stream:
                    tokens.append(stream.checkpoint("a"))


def test_a_checkpoint_holds_no_more_than_offset_and_state(client: Client) -> None:
    with client.stream("gru", ["a"]) as stream:
        stream.send("a", values(3))
        token = checkpoint_pb2.CheckpointToken.FromString(stream.checkpoint("a"))
    payload = checkpoint_pb2.CheckpointPayload.FromString(token.payload)
    assert (payload.model, payload.version, payload.key) == ("gru", "1", "a")
    assert payload.next_offset == 3
    assert [len(state) for state in payload.states] == [2 * 16 * 4]


def test_a_taken_port_is_named(models: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: is it in use"),
            running_server(models, port=port),
        ):
            pass
