"""The series of one model: their keys, owners, offsets and states.

A series is a row of a few columns. Its handle is the number of its row and of
its state slot, so what a message names by handles is looked up in one indexing
operation, however many series it has.

A series is live while a stream holds it, and kept for a while after that
stream has ended. It belongs to the identity that started it until it is
finished or dropped.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from tidegate.serve.errors import (
    AbortedError,
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
)
from tidegate.serve.kept import DroppedOffsets, Kept
from tidegate.serve.slots import Slots
from tidegate.serve.store.records import Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from tidegate.serve.checkpoint import CheckpointSigner, Restored
    from tidegate.serve.errors import ServingError
    from tidegate.serve.model import Model
    from tidegate.serve.settings import Settings
    from tidegate.serve.store.records import Claim, Claimed

    # Tells a stream, by its number, that a handle and key are not its own any more.
    OnLost = Callable[[int, int, str, ServingError], None]

# No stream has this number.
NOBODY = 0


class Opening(NamedTuple):
    """The wish of a stream to start one series.

    Attributes:
        owner: Number of the stream.
        identity: Who opened that stream; empty if anybody may.
        key: Names the series.
        take_over: Whether it may be live in another stream of the identity.
        reset: Whether to begin at offset 0, whatever is kept.
        checkpoint_every: Observations between checkpoints; 0: none.
        every_step: Whether each row is answered.
    """

    owner: int
    identity: str
    key: str
    take_over: bool = False
    reset: bool = False
    checkpoint_every: int = 0
    every_step: bool = False


class Opened(NamedTuple):
    """A series that was started."""

    handle: int
    next_offset: int
    dropped_offset: int


class Checkpoint(NamedTuple):
    """A token and the series it belongs to."""

    handle: int
    next_offset: int
    token: bytes


class Journal(Protocol):
    """What writes the states of a table to a store; see `WriteBehind`."""

    def changed(self) -> None:
        """Rows are dirty."""

    def leave(self, write: Write) -> None:
        """A row is freed; this is the last of its series."""

    def waiting(self, name: str) -> Write | None:
        """What was left of a series and is not stored yet."""

    async def claim(self, claims: Sequence[Claim]) -> list[Claimed | ServingError]:
        """Holds series in the store."""

    def release(self, names: Sequence[str]) -> None:
        """Gives up claims that led to nothing."""


def _nobody_to_tell(*_: object) -> None:
    """For tables whose streams are not told of what they lose."""


class SeriesTable:
    """Series in columns, indexed by handle.

    Attributes:
        slots: The states.
        owner: uint64 [size], the number of the stream that holds the series.
        next_offset: uint64 [size], the observation expected next.
        checkpoint_every: uint64 [size], observations between checkpoints; 0: none.
        every_step: bool [size], whether each row is answered.
        fence: uint64 [size], the number of the claim in the state store; 0: none.
        dirty: bool [size], whether a state is newer than in the store.
        journal: Writes states to the store; None without a store.

    Args:
        model: The model whose series these are.
        settings: Limits.
        signer: Makes checkpoint tokens.
        clock: Seconds that never go back.
        on_lost: Is called when a stream loses a series that it did not end.
    """

    def __init__(
        self,
        model: Model,
        settings: Settings,
        signer: CheckpointSigner,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_lost: OnLost = _nobody_to_tell,
    ) -> None:
        self.model = model
        self._settings = settings
        self._signer = signer
        self._on_lost = on_lost
        self._handles: dict[str, int] = {}
        self._keys: list[str] = []
        self._identities: list[str] = []
        self._counts: dict[int, int] = {}
        self._kept = Kept(settings.idle_seconds, clock)
        self._dropped = DroppedOffsets(settings.max_series)
        self.slots = Slots(model.states, settings.max_series)
        self.owner = np.zeros(0, np.uint64)
        self.next_offset = np.zeros(0, np.uint64)
        self.checkpoint_every = np.zeros(0, np.uint64)
        self.every_step = np.zeros(0, np.bool_)
        self.fence = np.zeros(0, np.uint64)
        self.dirty = np.zeros(0, np.bool_)
        self.journal: Journal | None = None
        self._reserved: set[str] = set()
        self._fit()

    @property
    def kept(self) -> int:
        """Series that no stream holds."""
        return len(self._kept)

    def check(self, opening: Opening) -> None:
        """Refuses a start that cannot succeed; changes nothing.

        Raises:
            InvalidArgumentError: The key is empty or too long.
            PermissionDeniedError: The series belongs to another identity.
            AlreadyExistsError: The series is live, and is not to be taken over.
            ResourceExhaustedError: The stream has as many series as it may.
        """
        self._check_key(opening.key)
        handle = self._handles.get(opening.key)
        if handle is not None:
            self._check_claim(handle, opening)
        if handle is None or not self.owns(opening.owner, handle):
            self._check_room(opening.owner)

    def reserve(self, opening: Opening) -> None:
        """Keeps a series from being started or dropped until `unreserve`.

        Raises:
            ServingError: See `check`, or it is reserved already.
        """
        self.check(opening)
        if opening.key in self._reserved:
            raise AlreadyExistsError(
                f"series {opening.key!r} of {self.model.label} is just being started: start it "
                "once, or try again"
            )
        self._reserved.add(opening.key)
        handle = self._handles.get(opening.key)
        if handle is not None:
            self._kept.discard(handle)

    def unreserve(self, openings: Iterable[Opening]) -> None:
        """Ends reservations, whatever became of them."""
        for opening in openings:
            self._reserved.discard(opening.key)
            handle = self._handles.get(opening.key)
            if handle is not None and self.owner[handle] == NOBODY:
                self._kept.add(handle)

    def start(self, opening: Opening, restored: Restored | None = None, fence: int = 0) -> Opened:
        """Starts a series: from `restored`, else from what is kept, else at offset 0.

        Args:
            opening: Which, for whom and how.
            restored: Where it goes on.
            fence: The number of its claim in the state store.

        Raises:
            ServingError: See `check`, or all slots are taken.
        """
        self.check(opening)
        handle = self._handles.get(opening.key)
        anew = handle is None or opening.reset
        if handle is None:
            handle = self._acquire(opening)
        else:
            self._release_from_owner(handle, opening)
        dropped = self._dropped.take(opening.key, opening.identity)
        if restored is not None:
            self.slots.write(handle, restored.states)
            self.next_offset[handle] = restored.next_offset
        elif anew:
            self.slots.reset(handle)
            self.next_offset[handle] = 0
        self._counts[opening.owner] = self._counts.get(opening.owner, 0) + 1
        self.owner[handle] = opening.owner
        self.checkpoint_every[handle] = opening.checkpoint_every
        self.every_step[handle] = opening.every_step
        self.fence[handle] = fence
        self._mark_changed(handle)
        told = dropped if anew and restored is None and not opening.reset else 0
        return Opened(handle, int(self.next_offset[handle]), told)

    def finish(self, owner: int, handles: Iterable[int]) -> list[int]:
        """Frees those of the series that the stream holds, and returns them."""
        own = [handle for handle in dict.fromkeys(handles) if self.owns(owner, handle)]
        for handle in own:
            self._leave(handle)
            if self.journal is not None:
                self.journal.leave(self._write_of(handle, b""))
            self._free(handle)
        return own

    def lose(self, handle: int, error: ServingError) -> None:
        """Frees a series that went elsewhere, and tells the stream that held it."""
        owner, key = int(self.owner[handle]), self._keys[handle]
        self._kept.discard(handle)
        if owner != NOBODY:
            self._leave(handle)
            self._on_lost(owner, handle, key, error)
        self._free(handle)

    def advance(self, handles: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        """Moves series on by so many rows, once their next states are stored."""
        self.next_offset[handles] += rows.astype(np.uint64)
        if self.journal is not None:
            self.dirty[handles] = True
            self.journal.changed()

    def mark_all_changed(self) -> None:
        """Lets every state be written to the store again."""
        self.dirty[list(self._handles.values())] = True
        if self.journal is not None:
            self.journal.changed()

    def changed_handles(self) -> list[int]:
        """Series whose state is newer than in the store."""
        return np.flatnonzero(self.dirty).tolist()

    def write_of(self, handle: int) -> Write:
        """A series as it goes to the store."""
        return self._write_of(handle, self._checkpoint(handle).token)

    def name(self, handle: int) -> str:
        """The name of a series in the store; that of no series if it is none."""
        return self.name_of(self.key(handle))

    def name_of(self, key: str) -> str:
        """The name of a series in the store."""
        return f"tidegate/{self.model.name}/{self.model.version}/{key}"

    def give_back(self, key: str, fence: int) -> None:
        """Undoes a claim in the store that started nothing here."""
        handle = self._handles.get(key)
        if handle is not None:
            # Whoever holds it here goes on, by the newer claim.
            self.fence[handle] = fence
            self._mark_changed(handle)
        elif self.journal is not None:
            self.journal.release([self.name_of(key)])

    def kept_fence(self, key: str) -> int | None:
        """The number of the last claim of a series that is here; None if it is not."""
        handle = self._handles.get(key)
        return None if handle is None else int(self.fence[handle])

    def detach(self, owner: int) -> None:
        """Keeps the series of a stream that has ended, for the next stream of its identity."""
        for handle in self.owned_by(owner):
            self._leave(handle)
            self._kept.add(handle)
            self._mark_changed(handle)
        self.drop_expired()

    def drop_expired(self) -> float | None:
        """Frees series kept for too long; returns the seconds until the next one is, if any."""
        for handle in self._kept.expired():
            self._drop(handle)
        return self._kept.seconds_left()

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
        return self._keys[handle] if handle < len(self._keys) else ""

    def checkpoints(self, handles: Sequence[int]) -> list[Checkpoint]:
        """Tokens of series, as they are after the last whole run."""
        return [self._checkpoint(handle) for handle in handles]

    def unknown(self, handle: int) -> NotFoundError:
        """The error for a handle that is not a series of the stream that sent it."""
        return NotFoundError(
            f"handle {handle} is not a live series of this stream: use the handles of `started`"
        )

    def taken_over(self, key: str) -> AbortedError:
        """The error for a stream that lost a series to another one."""
        return AbortedError(
            f"series {key!r} of {self.model.label} was taken over by another stream of its "
            "identity: go on there, or start it here again with take_over"
        )

    def _write_of(self, handle: int, value: bytes) -> Write:
        held = bool(self.owner[handle] != NOBODY)
        fence, identity = int(self.fence[handle]), self._identities[handle]
        return Write(self.name(handle), fence, identity, held, value)

    def _checkpoint(self, handle: int) -> Checkpoint:
        next_offset = int(self.next_offset[handle])
        key, identity = self._keys[handle], self._identities[handle]
        states = self.slots.read(handle)
        token = self._signer.seal(self.model, key, identity, next_offset, states)
        return Checkpoint(handle, next_offset, token)

    def _check_key(self, key: str) -> None:
        limit = self._settings.max_key_bytes
        if not key or len(key.encode()) > limit:
            raise InvalidArgumentError(
                f"series key {key[:40]!r} has {len(key.encode())} bytes: use 1 to {limit}"
            )

    def _check_claim(self, handle: int, opening: Opening) -> None:
        if self._identities[handle] != opening.identity:
            raise PermissionDeniedError(
                f"series {opening.key!r} of {self.model.label} belongs to another identity: "
                "use another key"
            )
        if self.owner[handle] != NOBODY and not opening.take_over:
            raise AlreadyExistsError(
                f"series {opening.key!r} of {self.model.label} is live: end the stream that holds "
                "it, start it with take_over, or use another key"
            )

    def _check_room(self, owner: int) -> None:
        limit = self._settings.max_series_per_stream
        if self._counts.get(owner, 0) >= limit:
            raise ResourceExhaustedError(
                f"this stream has {limit} series already (--max-series-per-stream): "
                "finish some, or open another stream"
            )

    def _acquire(self, opening: Opening) -> int:
        """A row for a new series; under pressure that of the series kept longest."""
        self.drop_expired()
        if self.slots.full and (longest := self._kept.longest()) is not None:
            self._drop(longest)
        handle = self.slots.acquire()
        self._fit()
        self._handles[opening.key] = handle
        self._keys[handle] = opening.key
        self._identities[handle] = opening.identity
        return handle

    def _release_from_owner(self, handle: int, opening: Opening) -> None:
        owner = int(self.owner[handle])
        self._kept.discard(handle)
        if owner != NOBODY:
            self._leave(handle)
        if owner not in (NOBODY, opening.owner):
            self._on_lost(owner, handle, opening.key, self.taken_over(opening.key))

    def _leave(self, handle: int) -> None:
        """Takes a live series from its stream."""
        owner = int(self.owner[handle])
        self.owner[handle] = NOBODY
        self._counts[owner] -= 1
        if not self._counts[owner]:
            del self._counts[owner]

    def _drop(self, handle: int) -> None:
        """Frees a kept series and remembers where it was."""
        self._kept.discard(handle)
        self._dropped.add(
            self._keys[handle], self._identities[handle], int(self.next_offset[handle])
        )
        if self.journal is not None and self.dirty[handle]:
            self.journal.leave(self.write_of(handle))
        self._free(handle)

    def _mark_changed(self, handle: int) -> None:
        if self.journal is not None:
            self.dirty[handle] = True
            self.journal.changed()

    def _free(self, handle: int) -> None:
        del self._handles[self._keys[handle]]
        self._keys[handle] = self._identities[handle] = ""
        self.dirty[handle] = False
        self.slots.release(handle)

    def _fit(self) -> None:
        """Grows the columns to the size of the slots."""
        missing = self.slots.size - len(self.owner)
        if missing:
            self._keys.extend([""] * missing)
            self._identities.extend([""] * missing)
            self.owner = np.pad(self.owner, (0, missing))
            self.next_offset = np.pad(self.next_offset, (0, missing))
            self.checkpoint_every = np.pad(self.checkpoint_every, (0, missing))
            self.every_step = np.pad(self.every_step, (0, missing))
            self.fence = np.pad(self.fence, (0, missing))
            self.dirty = np.pad(self.dirty, (0, missing))
