"""Checkpoint tokens: a series' state and offset, signed with HMAC-SHA256 (RFC 2104)."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from typing import TYPE_CHECKING, NamedTuple

from google.protobuf.message import DecodeError

from tidegate.serve.errors import CheckpointError, CheckpointMismatchError
from tidegate.v1 import checkpoint_pb2 as pb

if TYPE_CHECKING:
    from pathlib import Path

    from tidegate.serve.model import Model

MIN_KEY_BYTES = 32
_LARGEST_OFFSET = 2**62

logger = logging.getLogger(__name__)


class Restored(NamedTuple):
    """What a checkpoint brings back."""

    next_offset: int
    states: list[bytes]


def load_key(path: Path | None) -> bytes:
    """Reads the signing key, or makes one that lives as long as the process.

    Raises:
        ValueError: The file cannot be read or is too short.
    """
    if path is None:
        logger.warning(
            "no --checkpoint-key-file: checkpoints are valid only until this process ends"
        )
        return secrets.token_bytes(MIN_KEY_BYTES)
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
        key: At least 32 secret bytes, the same on every replica.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, model: Model, key: str, next_offset: int, states: list[bytes]) -> bytes:
        """The token of series `key`, whose next observation is `next_offset`."""
        payload = pb.CheckpointPayload(
            model=model.name,
            version=model.version,
            spec_digest=model.digest,
            key=key,
            next_offset=next_offset,
            states=states,
        ).SerializeToString()
        return pb.CheckpointToken(
            payload=payload, signature=self._sign(payload)
        ).SerializeToString()

    def open(self, token: bytes, model: Model, key: str) -> Restored:
        """Checks a token and returns what it holds.

        Raises:
            CheckpointError: Damaged, or signed with another key.
            CheckpointMismatchError: Made for another model, version or series.
        """
        payload = self._verified(token)
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
        return Restored(payload.next_offset, list(payload.states))

    def _verified(self, data: bytes) -> pb.CheckpointPayload:
        try:
            token = pb.CheckpointToken.FromString(data)
        except DecodeError as error:
            raise CheckpointError("the checkpoint is damaged: it is not a token") from error
        if len(token.signature) != hashlib.sha256().digest_size:
            raise CheckpointError("the checkpoint is damaged: it has no whole signature")
        if not hmac.compare_digest(token.signature, self._sign(token.payload)):
            raise CheckpointError(
                "the checkpoint was changed or is signed with another key: give all replicas the "
                "same --checkpoint-key-file"
            )
        return pb.CheckpointPayload.FromString(token.payload)

    def _sign(self, payload: bytes) -> bytes:
        return hmac.digest(self._key, payload, "sha256")
