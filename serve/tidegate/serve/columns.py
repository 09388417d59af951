"""What is known of each series of a model, in columns indexed by its handle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# No stream has this number.
NOBODY = 0


class Columns:
    """Series by handle, and their handles by key.

    Attributes:
        handles: The handle of each series by its key.
        keys: The key of each series, [size]; empty: the row is free.
        identities: Whom each belongs to, [size].
        owner: uint64 [size], the number of the stream that holds the series.
        next_offset: uint64 [size], the observation expected next.
        checkpoint_every: uint64 [size], observations between checkpoints; 0: none.
        every_step: bool [size], whether each row is answered.
        fence: uint64 [size], the number of the claim in the state store; 0: none.
        dirty: bool [size], whether a state is newer than in the store.
    """

    def __init__(self) -> None:
        self.handles: dict[str, int] = {}
        self.keys: list[str] = []
        self.identities: list[str] = []
        self.owner = np.zeros(0, np.uint64)
        self.next_offset = np.zeros(0, np.uint64)
        self.checkpoint_every = np.zeros(0, np.uint64)
        self.every_step = np.zeros(0, np.bool_)
        self.fence = np.zeros(0, np.uint64)
        self.dirty = np.zeros(0, np.bool_)

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
        """The key of a series; empty for a handle that is none."""
        return self.keys[handle] if handle < len(self.keys) else ""

    def kept_fence(self, key: str) -> int | None:
        """The number of the last claim of a series that is here; None if it is not."""
        handle = self.handles.get(key)
        return None if handle is None else int(self.fence[handle])

    def _grow(self, size: int) -> None:
        """Makes room for so many series."""
        missing = size - len(self.owner)
        if missing:
            self.keys.extend([""] * missing)
            self.identities.extend([""] * missing)
            self.owner = np.pad(self.owner, (0, missing))
            self.next_offset = np.pad(self.next_offset, (0, missing))
            self.checkpoint_every = np.pad(self.checkpoint_every, (0, missing))
            self.every_step = np.pad(self.every_step, (0, missing))
            self.fence = np.pad(self.fence, (0, missing))
            self.dirty = np.pad(self.dirty, (0, missing))

    def _occupy(self, handle: int, key: str, identity: str) -> None:
        """Gives a free row to a series."""
        self.handles[key] = handle
        self.keys[handle] = key
        self.identities[handle] = identity

    def _vacate(self, handle: int) -> None:
        """Frees the row of a series that no stream holds."""
        del self.handles[self.keys[handle]]
        self.keys[handle] = self.identities[handle] = ""
        self.dirty[handle] = False
