"""The protocol of offsets, over any sequence of messages, beside a model of thirty lines."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from support import onnx_models
from support.streams import Wire
from tidegate.serve.errors import Code
from tidegate.serve.service import Service
from tidegate.serve.session import Session
from tidegate.serve.settings import Settings
from tidegate.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from numpy.typing import NDArray

T = TypeVar("T")
KEYS, IDENTITIES, ROWS = ("a", "b"), ("ann", "bob"), 30
DATA = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)


class Reference:
    """What the server must do: one dictionary, and no states at all.

    Every series reads the same rows, so an offset says what its state is.
    """

    def __init__(self) -> None:
        self.series: dict[str, tuple[str, int, int | None]] = {}  # owner, offset, stream

    def start(
        self, stream: int, identity: str, key: str, token: int | None, *, over: bool, reset: bool
    ) -> Code | int:
        owner, offset, holder = self.series.get(key, (identity, 0, None))
        if owner != identity:
            return Code.PERMISSION_DENIED
        if holder is not None and not over:
            return Code.ALREADY_EXISTS
        offset = token if token is not None else 0 if reset else offset
        self.series[key] = owner, offset, stream
        return offset

    def observe(self, stream: int, key: str, offset: int, rows: int) -> Code | list[int]:
        owner, expected, holder = self.series.get(key, ("", 0, None))
        if holder != stream:
            return Code.NOT_FOUND
        if offset > expected:
            return Code.OUT_OF_RANGE
        self.series[key] = owner, max(expected, offset + rows), stream
        return [offset + rows - 1] if offset + rows > expected else []

    def finish(self, stream: int, key: str) -> bool:
        return self.series.get(key, ("", 0, None))[2] == stream and bool(self.series.pop(key))

    def leave(self, stream: int) -> None:
        for key, (owner, offset, holder) in self.series.items():
            self.series[key] = owner, offset, None if holder == stream else holder


class OffsetProtocol(RuleBasedStateMachine):
    """Streams of two identities on one service, step by step beside the reference."""

    folder: Path
    expected: NDArray[np.float32]
    streams = Bundle("streams")

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.service = Service(
            Settings(models=self.folder, provider="cpu", max_rows_per_chunk=ROWS)
        )
        self.reference = Reference()
        self.wires: dict[int, tuple[Wire, str]] = {}
        self.handles: dict[tuple[int, str], int] = {}
        self.tokens: dict[tuple[str, str], tuple[int, bytes]] = {}

    @rule(target=streams, identity=st.sampled_from(IDENTITIES))
    def open(self, identity: str) -> int:
        wire = Wire(self.service, identity)
        number = wire.call.number
        self.wires[number] = wire, identity
        return number

    @rule(
        stream=streams,
        key=st.sampled_from(KEYS),
        over=st.booleans(),
        reset=st.booleans(),
        with_token=st.booleans(),
    )
    def start(self, stream: int, key: str, over: bool, reset: bool, with_token: bool) -> None:
        if stream not in self.wires:
            return
        wire, identity = self.wires[stream]
        offset, token = self.tokens.get((identity, key), (None, b"")) if with_token else (None, b"")
        before = self.reference.series.get(key, ("", 0, None))[2]
        want = self.reference.start(stream, identity, key, offset, over=over, reset=reset)
        *errors, response = self.run(
            wire.start_responses("gru", key, take_over=over, reset=reset, checkpoint=token)
        )
        if isinstance(want, Code):
            assert [one.error.code for one in errors] == [want]
            return
        (started,) = response.started.series
        assert (errors, started.next_offset, started.dropped_offset) == ([], want, 0)
        self.handles[stream, key] = started.handle
        if before not in (None, stream):
            (notice,) = self.wires[before][0].notices
            assert (notice.error.code, notice.error.key) == (Code.ABORTED, key)
            self.wires[before][0].notices.clear()
            # From here on the loser's handle is one that is not its own.
            self.handles[before, key] = started.handle

    @rule(
        stream=streams,
        key=st.sampled_from(KEYS),
        back=st.integers(-2, 6),
        rows=st.integers(1, 6),
    )
    def observe(self, stream: int, key: str, back: int, rows: int) -> None:
        if (stream, key) not in self.handles:
            return
        expected = self.reference.series.get(key, ("", 0, None))[1]
        offset = min(max(0, expected - back), ROWS - rows)
        want = self.reference.observe(stream, key, offset, rows)
        wire, _ = self.wires[stream]
        handle = self.handles[stream, key]
        *errors, response = self.run(wire.observe(handle, offset, DATA[offset : offset + rows]))
        if isinstance(want, Code):
            # Who lost the series to another stream is told that, with the same effect.
            codes = {want, Code.ABORTED} if want == Code.NOT_FOUND else {want}
            assert len(errors) == 1
            assert errors[0].error.code in codes
            assert want != Code.OUT_OF_RANGE or errors[0].error.expected_offset == expected
            want = []
        assert list(response.forecasts.offsets) == want
        forecasts = np.frombuffer(response.forecasts.quantiles, "<f4").reshape(
            -1, self.expected.shape[1]
        )
        np.testing.assert_array_equal(forecasts, self.expected[want])

    @rule(stream=streams, key=st.sampled_from(KEYS))
    def checkpoint(self, stream: int, key: str) -> None:
        owner, offset, holder = self.reference.series.get(key, ("", 0, None))
        if holder != stream:
            return
        (response,) = self.run(self.wires[stream][0].checkpoint(self.handles[stream, key]))
        (made,) = response.checkpoints.checkpoints
        assert made.next_offset == offset
        self.tokens[owner, key] = offset, made.token

    @rule(stream=streams, key=st.sampled_from(KEYS))
    def finish(self, stream: int, key: str) -> None:
        if (stream, key) not in self.handles:
            return
        handle = self.handles[stream, key]
        *errors, response = self.run(self.wires[stream][0].finish(handle))
        done = self.reference.finish(stream, key)
        assert list(response.finished.handles) == ([handle] if done else [])
        assert len(errors) == (not done)
        del self.handles[stream, key]

    @rule(stream=streams)
    def leave(self, stream: int) -> None:
        if stream not in self.wires:
            return
        self.run(self.close(self.wires.pop(stream)[0]))
        self.reference.leave(stream)
        self.handles = {pair: one for pair, one in self.handles.items() if pair[0] != stream}

    @invariant()
    def slots_are_those_of_the_series(self) -> None:
        for table in self.service.tables if hasattr(self, "service") else ():
            assert table.slots.used == len(self.reference.series)
            held = [holder for *_, holder in self.reference.series.values()]
            assert table.kept == held.count(None)

    async def close(self, wire: Wire) -> None:
        self.service.close_stream(wire.call)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(coroutine)

    def teardown(self) -> None:
        if hasattr(self, "service"):
            self.service.close()
            self.loop.close()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> type[OffsetProtocol]:
    folder = tmp_path_factory.mktemp("models")
    path = onnx_models.save(onnx_models.forecaster("gru", differenced=True), folder, "gru")
    session = Session(path.read_bytes())
    feeds = {
        "x": DATA[None],
        "lengths": np.array([ROWS], np.int32),
        "h": np.zeros((2, 1, 16), np.float32),
        "x_previous": np.full((1, 1, 3), np.nan, np.float32),
    }
    whole = session.run(feeds)["quantiles"].reshape(ROWS, -1)
    return type("Machine", (OffsetProtocol,), {"folder": folder, "expected": whole})


def test_any_sequence_of_messages_does_what_the_reference_does(
    machine: type[OffsetProtocol],
) -> None:
    options = settings(max_examples=40, stateful_step_count=25, deadline=None)
    run_state_machine_as_test(machine, settings=options)


@pytest.mark.slow
def test_many_long_sequences_of_messages_do_what_the_reference_does(
    machine: type[OffsetProtocol],
) -> None:
    options = settings(max_examples=300, stateful_step_count=60, deadline=None)
    run_state_machine_as_test(machine, settings=options)


def test_a_server_that_applies_a_row_twice_is_found_out(
    machine: type[OffsetProtocol], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = machine()
    tried.begin()
    stream = tried.open("ann")
    tried.start(stream, "a", over=False, reset=False, with_token=False)
    tried.observe(stream, "a", back=0, rows=1)
    (table,) = tried.service.tables
    monkeypatch.setattr(table, "advance", lambda *_: None)
    tried.observe(stream, "a", back=0, rows=1)
    with pytest.raises(AssertionError):
        tried.observe(stream, "a", back=0, rows=1)
    tried.teardown()


def test_an_empty_message_of_observations_is_answered_empty(machine: type[OffsetProtocol]) -> None:
    async def ask() -> list[pb.StreamForecastResponse]:
        service = Service(Settings(models=machine.folder, provider="cpu"))
        wire = Wire(service)
        await wire.start("gru", "a")
        responses = await wire.ask(observations=pb.Observations())
        service.close()
        return responses

    (response,) = asyncio.run(ask())
    assert response.WhichOneof("response") == "forecasts"
