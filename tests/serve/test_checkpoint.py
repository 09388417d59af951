"""Checkpoint tokens: who may make them, who may use them, and how damaged ones are refused."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from support import onnx_models
from support.server import running_server
from support.streams import RawStream
from tidegate.client import Client, InvalidArgumentError
from tidegate.serve.checkpoint import CheckpointSigner, load_keys
from tidegate.serve.errors import (
    CheckpointError,
    CheckpointMismatchError,
    PermissionDeniedError,
)
from tidegate.serve.model import Model
from tidegate.serve.settings import Settings
from tidegate.v1 import checkpoint_pb2 as pb
from tidegate.v1 import inference_pb2

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = b"o" * 32, b"n" * 40
Refused = (CheckpointError, CheckpointMismatchError, PermissionDeniedError)


@pytest.fixture(scope="module")
def model(models: Path) -> Model:
    return onnx_models.load(models, "lstm")


@pytest.fixture(scope="module")
def states(model: Model) -> list[bytes]:
    random = np.random.default_rng(0)
    return [random.normal(size=s.nbytes // 4).astype("<f4").tobytes() for s in model.states]


def seal(signer: CheckpointSigner, model: Model, states: list[bytes]) -> bytes:
    return signer.seal(model, "a", "ann", 7, states)


def test_a_token_brings_back_offset_and_states(model: Model, states: list[bytes]) -> None:
    signer = CheckpointSigner([OLD])
    assert signer.open(seal(signer, model, states), model, "a", "ann") == (7, states)


def test_keys_are_rotated_without_losing_a_token(model: Model, states: list[bytes]) -> None:
    """The three steps of a rotation over two replicas, each at another step."""
    steps = [CheckpointSigner(keys) for keys in ([OLD], [OLD, NEW], [NEW, OLD], [NEW])]
    for before, after in pairwise(steps):
        for signs, opens in ((before, after), (after, before)):
            token = seal(signs, model, states)
            assert opens.open(token, model, "a", "ann").next_offset == 7
    with pytest.raises(CheckpointError, match="a key that this server does not have: give all"):
        steps[3].open(seal(steps[0], model, states), model, "a", "ann")


def test_the_first_key_signs(model: Model, states: list[bytes]) -> None:
    token = seal(CheckpointSigner([NEW, OLD]), model, states)
    CheckpointSigner([NEW]).open(token, model, "a", "ann")


def test_a_token_does_not_hold_the_key_or_its_plain_hash(model: Model, states: list[bytes]) -> None:
    token = pb.CheckpointToken.FromString(seal(CheckpointSigner([OLD]), model, states))
    assert len(token.key_id) == 8
    assert OLD[:8] not in token.SerializeToString()


def test_a_token_is_refused_when_it_is_too_old(model: Model, states: list[bytes]) -> None:
    now = 1_000_000.0
    signer = CheckpointSigner([OLD], max_age_seconds=60, clock=lambda: now)
    token = seal(signer, model, states)
    now += 60
    signer.open(token, model, "a", "ann")
    now += 1
    with pytest.raises(CheckpointError, match="is 61 seconds old, over the limit of 60"):
        signer.open(token, model, "a", "ann")
    CheckpointSigner([OLD], clock=lambda: now).open(token, model, "a", "ann")


def test_a_token_of_another_series_or_identity_is_refused(
    model: Model, states: list[bytes]
) -> None:
    signer = CheckpointSigner([OLD])
    token = seal(signer, model, states)
    with pytest.raises(PermissionDeniedError, match="belongs to another identity"):
        signer.open(token, model, "a", "bob")
    with pytest.raises(CheckpointMismatchError, match="belongs to series 'a', not 'b'"):
        signer.open(token, model, "b", "ann")


def test_a_token_that_is_too_large_is_refused_before_it_is_read(
    model: Model, states: list[bytes]
) -> None:
    signer = CheckpointSigner([OLD])
    token = seal(signer, model, states)
    with pytest.raises(CheckpointError, match=r"it has \d+ bytes, one of this model has at most"):
        signer.open(token + b"\0" * 2**17, model, "a", "ann")


def test_a_signed_token_with_states_of_another_shape_is_refused(
    model: Model, states: list[bytes]
) -> None:
    signer = CheckpointSigner([OLD])
    for wrong in (states[:1], [states[0], states[1][:-4]], [*states, b""]):
        with pytest.raises(CheckpointMismatchError, match="belongs to another file"):
            signer.open(seal(signer, model, wrong), model, "a", "ann")
    with pytest.raises(CheckpointError, match="its offset is out of range"):
        signer.open(signer.seal(model, "a", "ann", 2**63, states), model, "a", "ann")


MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "swap", "repeat"]),
        st.integers(0, 2**16),
        st.integers(1, 255),
    ),
    min_size=1,
    max_size=4,
)


def mutate(token: bytes, mutations: list[tuple[str, int, int]]) -> bytes:
    for kind, place, value in mutations:
        at = place % (len(token) or 1)
        head, tail = token[:at], token[at:]
        match kind:
            case "flip":
                token = head + bytes(byte ^ value for byte in tail[:1]) + tail[1:]
            case "cut":
                token = head + tail[value:]
            case "insert":
                token = head + bytes([value]) * value + tail
            case "swap":
                token = tail + head
            case "repeat":
                token = head + head + tail
    return token


def check_mutated(model: Model, states: list[bytes], mutations: list[tuple[str, int, int]]) -> None:
    """A changed token is refused, or holds exactly what the genuine one holds."""
    signer = CheckpointSigner([OLD, NEW])
    changed = mutate(seal(signer, model, states), mutations)
    try:
        restored = signer.open(changed, model, "a", "ann")
    except Refused as error:
        reason = str(error)
    else:
        # Fields that no reader knows may be added beside the signed payload.
        reason = "" if restored == (7, states) else f"brought back {restored}"
    assert not reason or reason.startswith("the checkpoint ")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(mutations=[("cut", 0, 255)] * 4)
@given(mutations=MUTATIONS)
def test_a_mutated_token_is_refused_with_a_reason(
    model: Model, states: list[bytes], mutations: list[tuple[str, int, int]]
) -> None:
    check_mutated(model, states, mutations)


@pytest.mark.slow
@settings(max_examples=20_000, deadline=None, database=None)
@given(mutations=MUTATIONS)
def test_20_000_mutated_tokens_are_refused_with_a_reason(
    model: Model, states: list[bytes], mutations: list[tuple[str, int, int]]
) -> None:
    check_mutated(model, states, mutations)


@settings(max_examples=300)
@given(token=st.binary(max_size=300))
def test_noise_is_refused_as_damaged(model: Model, token: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"the checkpoint is (damaged|signed with a key)"):
        CheckpointSigner([OLD]).open(token, model, "a", "ann")


def test_every_single_bit_of_a_token_matters(model: Model, states: list[bytes]) -> None:
    signer = CheckpointSigner([OLD])
    token = seal(signer, model, states)
    for bit in range(8 * len(token)):
        changed = bytearray(token)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CheckpointError):
            signer.open(bytes(changed), model, "a", "ann")


def test_a_second_key_file_is_accepted_over_a_socket(models: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old.key", tmp_path / "new.key"
    old.write_bytes(OLD)
    new.write_bytes(NEW)
    with (
        running_server(models, checkpoint_key_file=old) as target,
        Client(target) as client,
        client.stream("gru", ["a"]) as stream,
    ):
        stream.step("a", [1, 2, 3])
        token = stream.checkpoint("a")
    rotated = {"checkpoint_key_file": new, "checkpoint_accept_key_file": old}
    with (
        running_server(models, **rotated) as target,
        Client(target) as client,
        client.stream("gru", {"a": token}) as stream,
    ):
        assert stream.next_offset("a") == 1
    with (
        running_server(models, checkpoint_key_file=new) as target,
        Client(target) as client,
        pytest.raises(InvalidArgumentError, match="a key that this server does not have"),
    ):
        client.stream("gru", {"a": token})


def test_a_key_to_accept_needs_one_that_signs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="checkpoint_accept_key_file needs checkpoint_key_file"):
        load_keys(Settings(checkpoint_accept_key_file=tmp_path / "old.key"))


def test_checkpoints_that_do_not_fit_in_one_message_come_in_several(models: Path) -> None:
    keys = [f"series-{number}" for number in range(40)]
    with running_server(models, max_message_bytes=8192) as target, RawStream(target) as stream:
        handles = stream.start("gru", *keys)
        stream.send(checkpoint=inference_pb2.CheckpointRequest())
        received: list[int] = []
        messages = 0
        while len(received) < len(handles):
            part = stream.receive().checkpoints.checkpoints
            received.extend(checkpoint.handle for checkpoint in part)
            messages += 1
    assert received == handles
    assert messages > 1
