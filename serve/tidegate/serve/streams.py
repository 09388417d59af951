"""The live series of one model: their keys, owners, offsets and states.

A series is a row of a few columns. Its handle is the number of its row and of
its state slot, so what a message names by handles is looked up in one indexing
operation, however many series it has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tidegate.serve.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from tidegate.serve.slots import Slots

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from tidegate.serve.checkpoint import CheckpointSigner
    from tidegate.serve.model import Model
    from tidegate.serve.settings import Settings

# No stream has this number.
NOBODY = 0


class Checkpoint(NamedTuple):
    """A token and the series it belongs to."""

    handle: int
    next_offset: int
    token: bytes


class SeriesTable:
    """Live series in columns, indexed by handle.

    Attributes:
        slots: The states.
        owner: uint64 [size], the number of the stream that started the series.
        next_offset: uint64 [size], the observation expected next.
        checkpoint_every: uint64 [size], observations between checkpoints; 0: none.
        every_step: bool [size], whether each row is answered.

    Args:
        model: The model whose series these are.
        settings: Limits.
        signer: Opens and makes checkpoint tokens.
    """

    def __init__(self, model: Model, settings: Settings, signer: CheckpointSigner) -> None:
        self.model = model
        self._settings = settings
        self._signer = signer
        self._handles: dict[str, int] = {}
        self._keys: dict[int, str] = {}
        self._counts: dict[int, int] = {}
        self.slots = Slots(model.states, settings.max_series)
        self.owner = np.zeros(0, np.uint64)
        self.next_offset = np.zeros(0, np.uint64)
        self.checkpoint_every = np.zeros(0, np.uint64)
        self.every_step = np.zeros(0, np.bool_)
        self._fit()

    def start(
        self,
        owner: int,
        key: str,
        checkpoint: bytes = b"",
        *,
        checkpoint_every: int = 0,
        every_step: bool = False,
    ) -> int:
        """Starts a series, from its checkpoint if there is one; returns its handle.

        Raises:
            AlreadyExistsError: The key is live.
            InvalidArgumentError: The key is empty or too long, or the checkpoint damaged.
            CheckpointMismatchError: The checkpoint belongs elsewhere.
            ResourceExhaustedError: A limit is reached.
        """
        self._check_key(key)
        self._check_room(owner)
        restored = self._signer.open(checkpoint, self.model, key) if checkpoint else None
        handle = self.slots.acquire()
        self._fit()
        if restored is not None:
            self.slots.write(handle, restored.states)
        self.owner[handle] = owner
        self.next_offset[handle] = restored.next_offset if restored else 0
        self.checkpoint_every[handle] = checkpoint_every
        self.every_step[handle] = every_step
        self._handles[key] = handle
        self._keys[handle] = key
        self._counts[owner] = self._counts.get(owner, 0) + 1
        return handle

    def end(self, owner: int, handles: Iterable[int]) -> list[int]:
        """Ends those of the series that are the owner's, and returns them.

        Their slots stay taken until `slots.release`: a run may still be writing
        to them.
        """
        ended = []
        for handle in handles:
            if self.owns(owner, handle):
                self.owner[handle] = NOBODY
                del self._handles[self._keys.pop(handle)]
                self._counts[owner] -= 1
                ended.append(handle)
        if self._counts.get(owner) == 0:
            del self._counts[owner]
        return ended

    def owns(self, owner: int, handle: int) -> bool:
        """Whether the handle is a live series of that stream."""
        return handle < len(self.owner) and bool(self.owner[handle] == owner)

    def owned_by(self, owner: int) -> list[int]:
        """Handles of all live series of a stream."""
        return np.flatnonzero(self.owner == owner).tolist()

    def owned(self, owners: NDArray[np.uint64], handles: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Elementwise `owns`."""
        inside = handles < len(self.owner)
        owned: NDArray[np.bool_] = self.owner[np.where(inside, handles, 0)] == owners
        return inside & owned

    def key(self, handle: int) -> str:
        """The key of a live series; empty for a handle that is none."""
        return self._keys.get(handle, "")

    def checkpoints(self, handles: Sequence[int]) -> list[Checkpoint]:
        """Tokens of live series, as they are after the last whole run."""
        return [self._checkpoint(handle) for handle in handles]

    def unknown(self, handle: int) -> NotFoundError:
        """The error for a handle that is not a series of the stream that sent it."""
        return NotFoundError(
            f"handle {handle} is not a live series of this stream: use the handles of `started`"
        )

    def _checkpoint(self, handle: int) -> Checkpoint:
        next_offset = int(self.next_offset[handle])
        states = self.slots.read(handle)
        token = self._signer.seal(self.model, self._keys[handle], next_offset, states)
        return Checkpoint(handle, next_offset, token)

    def _check_key(self, key: str) -> None:
        limit = self._settings.max_key_bytes
        if not key or len(key.encode()) > limit:
            raise InvalidArgumentError(
                f"series key {key[:40]!r} has {len(key.encode())} bytes: use 1 to {limit}"
            )
        if key in self._handles:
            raise AlreadyExistsError(
                f"series {key!r} of {self.model.label} is live: finish it or end the stream that "
                "started it, or use another key"
            )

    def _check_room(self, owner: int) -> None:
        limit = self._settings.max_series_per_stream
        if self._counts.get(owner, 0) >= limit:
            raise ResourceExhaustedError(
                f"this stream has {limit} series already (--max-series-per-stream): "
                "finish some, or open another stream"
            )

    def _fit(self) -> None:
        """Grows the columns to the size of the slots."""
        missing = self.slots.size - len(self.owner)
        if missing:
            self.owner = np.pad(self.owner, (0, missing))
            self.next_offset = np.pad(self.next_offset, (0, missing))
            self.checkpoint_every = np.pad(self.checkpoint_every, (0, missing))
            self.every_step = np.pad(self.every_step, (0, missing))
