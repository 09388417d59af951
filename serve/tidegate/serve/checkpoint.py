"""Checkpoint tokens: a series' state and offset, signed with HMAC-SHA256 (RFC 2104)."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import time
from typing import TYPE_CHECKING, NamedTuple

from google.protobuf.message import DecodeError

from tidegate.serve.errors import (
    CheckpointError,
    CheckpointMismatchError,
    PermissionDeniedError,
)
from tidegate.v1 import checkpoint_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tidegate.serve.model import Model
    from tidegate.serve.settings import Settings

MIN_KEY_BYTES = 32
_LARGEST_OFFSET = 2**62
_KEY_ID_BYTES = 8
# Room in a token for all that is not state: names, key, identity, signature.
_NAMES_BYTES = 2**16

logger = logging.getLogger(__name__)


class Restored(NamedTuple):
    """What a checkpoint brings back."""

    next_offset: int
    states: list[bytes]


def load_keys(settings: Settings) -> list[bytes]:
    """The key that signs and those that are accepted too, in this order.

    Without a key file the key lives as long as the process.

    Raises:
        ValueError: A file cannot be read or is too short.
    """
    sign, accept = settings.checkpoint_key_file, settings.checkpoint_accept_key_file
    if sign is None:
        if accept is not None:
            raise ValueError("checkpoint_accept_key_file needs checkpoint_key_file, which signs")
        logger.warning(
            "no --checkpoint-key-file: checkpoints are valid only until this process ends"
        )
        return [secrets.token_bytes(MIN_KEY_BYTES)]
    return [_read_key(path) for path in (sign, accept) if path is not None]


def _read_key(path: Path) -> bytes:
    try:
        key = path.read_bytes()
    except OSError as error:
        raise ValueError(f"checkpoint key file {path} cannot be read: {error.strerror}") from error
    if len(key) < MIN_KEY_BYTES:
        raise ValueError(
            f"checkpoint key file {path} has {len(key)} bytes; at least {MIN_KEY_BYTES} are "
            f"needed: head -c {MIN_KEY_BYTES} /dev/urandom > {path}"
        )
    return key


class CheckpointSigner:
    """Makes and opens tokens.

    Args:
        keys: At least 32 secret bytes each, the same on every replica. The first
            signs, all are accepted.
        max_age_seconds: Older tokens are refused; 0: none is too old.
        clock: Seconds since 1970-01-01 UTC.
    """

    def __init__(
        self,
        keys: Sequence[bytes],
        max_age_seconds: float = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = {_key_id(key): key for key in keys}
        self._signing_id = _key_id(keys[0])
        self._max_age = max_age_seconds
        self._clock = clock

    def seal(
        self, model: Model, key: str, identity: str, next_offset: int, states: list[bytes]
    ) -> bytes:
        """The token of the identity's series `key`, whose next observation is `next_offset`."""
        payload = pb.CheckpointPayload(
            model=model.name,
            version=model.version,
            spec_digest=model.digest,
            key=key,
            next_offset=next_offset,
            states=states,
            identity=identity,
            issued_at=int(self._clock()),
        ).SerializeToString()
        signature = _sign(self._keys[self._signing_id], payload)
        token = pb.CheckpointToken(payload=payload, signature=signature, key_id=self._signing_id)
        return token.SerializeToString()

    def open(self, token: bytes, model: Model, key: str, identity: str) -> Restored:
        """Checks a token and returns what it holds.

        Raises:
            CheckpointError: Damaged, too old, or signed with another key.
            PermissionDeniedError: Made for another identity.
            CheckpointMismatchError: Made for another model, version or series.
        """
        payload = self._verified(token, _largest_token(model))
        if payload.identity != identity:
            raise PermissionDeniedError(
                "the checkpoint belongs to another identity: use one of your own"
            )
        for what, have, want in (
            ("model", payload.model, model.name),
            ("version", payload.version, model.version),
            ("series", payload.key, key),
        ):
            if have != want:
                raise CheckpointMismatchError(
                    f"the checkpoint belongs to {what} {have!r}, not {want!r}: start the series "
                    "with its own checkpoint, or without one"
                )
        sizes = [len(state) for state in payload.states]
        if payload.spec_digest != model.digest or sizes != [s.nbytes for s in model.states]:
            raise CheckpointMismatchError(
                f"the checkpoint belongs to another file that was served as {model.label}: "
                "start the series without a checkpoint and send its history"
            )
        if payload.next_offset > _LARGEST_OFFSET:
            raise CheckpointError("the checkpoint is damaged: its offset is out of range")
        self._check_age(payload.issued_at)
        return Restored(payload.next_offset, list(payload.states))

    def _check_age(self, issued_at: int) -> None:
        age = self._clock() - issued_at
        if 0 < self._max_age < age:
            raise CheckpointError(
                f"the checkpoint is {age:.0f} seconds old, over the limit of {self._max_age:.0f} "
                "(--checkpoint-max-age-seconds): start the series without it and send its history"
            )

    def _verified(self, data: bytes, limit: int) -> pb.CheckpointPayload:
        if len(data) > limit:
            raise CheckpointError(
                f"the checkpoint is damaged: it has {len(data)} bytes, one of this model has at "
                f"most {limit}"
            )
        try:
            token = pb.CheckpointToken.FromString(data)
        except DecodeError as error:
            raise CheckpointError("the checkpoint is damaged: it is not a token") from error
        if len(token.signature) != hashlib.sha256().digest_size:
            raise CheckpointError("the checkpoint is damaged: it has no whole signature")
        key = self._keys.get(token.key_id)
        if key is None:
            raise CheckpointError(
                "the checkpoint is signed with a key that this server does not have: give all "
                "replicas the same --checkpoint-key-file"
            )
        if not hmac.compare_digest(token.signature, _sign(key, token.payload)):
            raise CheckpointError("the checkpoint was changed after it was signed: use it as sent")
        return pb.CheckpointPayload.FromString(token.payload)


def _largest_token(model: Model) -> int:
    return sum(state.nbytes for state in model.states) + _NAMES_BYTES


def _key_id(key: bytes) -> bytes:
    return hmac.digest(key, b"tidegate checkpoint key", "sha256")[:_KEY_ID_BYTES]


def _sign(key: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, payload, "sha256")
