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
from typing import TYPE_CHECKING

import numpy as np

from tidegate.serve.admission import Admission
from tidegate.serve.columns import NOBODY, Columns
from tidegate.serve.errors import AlreadyExistsError, NotFoundError
from tidegate.serve.kept import DroppedOffsets, Kept
from tidegate.serve.live_series import LiveSeries
from tidegate.serve.opening import Checkpoint, Opened
from tidegate.serve.slots import slots_of
from tidegate.serve.store.records import Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from tidegate.serve.checkpoint import CheckpointSigner, Restored
    from tidegate.serve.errors import ServingError
    from tidegate.serve.model import Model
    from tidegate.serve.opening import Opening
    from tidegate.serve.settings import Settings
    from tidegate.serve.store.journal import Journal

    # Tells a stream, by its number, that a handle and key are not its own any more.
    OnLost = Callable[[int, int, str, ServingError], None]


def _nobody_to_tell(*_: object) -> None:
    """For tables whose streams are not told of what they lose."""


class SeriesTable(Columns):
    """Starts, moves and ends series; see `Columns` for what is known of each.

    Attributes:
        slots: The states.
        journal: Writes states to the store; None without a store.

    Args:
        model: The model whose series these are.
        settings: Limits.
        signer: Makes checkpoint tokens.
        clock: Seconds that never go back.
        on_lost: Is called when a stream loses a series that it did not end.
        live: Counts those of all models.
    """

    def __init__(
        self,
        model: Model,
        settings: Settings,
        signer: CheckpointSigner,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_lost: OnLost = _nobody_to_tell,
        live: LiveSeries | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self._live = live or LiveSeries(settings)
        self._admission = Admission(model.label, settings, self._live)
        self._signer = signer
        self._on_lost = on_lost
        self._kept = Kept(settings.idle_seconds, clock)
        self._dropped = DroppedOffsets(settings.max_series)
        self.slots = slots_of(model, settings.max_series)
        self.journal: Journal | None = None
        self._reserved: set[str] = set()
        self._grow(self.slots.size)

    @property
    def kept(self) -> int:
        """Series that no stream holds."""
        return len(self._kept)

    def sender(self, owner: int) -> str | int:
        """See `LiveSeries.sender`."""
        return self._live.sender(owner)

    def reserve(self, opening: Opening) -> None:
        """Keeps a series from being started or dropped until `unreserve`.

        Raises:
            ServingError: See `Admission.check`, or it is reserved already.
        """
        self._admission.check(opening, self)
        if opening.key in self._reserved:
            raise AlreadyExistsError(
                f"series {opening.key!r} of {self.model.label} is just being started: start it "
                "once, or try again"
            )
        self._reserved.add(opening.key)
        handle = self.handles.get(opening.key)
        if handle is not None:
            self._kept.discard(handle)

    def unreserve(self, openings: Iterable[Opening]) -> None:
        """Ends reservations, whatever became of them."""
        for opening in openings:
            self._reserved.discard(opening.key)
            handle = self.handles.get(opening.key)
            if handle is not None and self.owner[handle] == NOBODY:
                self._kept.add(handle)

    def start(self, opening: Opening, restored: Restored | None = None, fence: int = 0) -> Opened:
        """Starts a series: from `restored`, else from what is kept, else at offset 0.

        Args:
            opening: Which, for whom and how.
            restored: Where it goes on.
            fence: The number of its claim in the state store.

        Raises:
            ServingError: See `Admission.check`, or all slots are taken.
        """
        self._admission.check(opening, self)
        handle = self.handles.get(opening.key)
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
            self.next_offset[handle] = opening.first_offset
        self._live.enter(opening.owner)
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
        owner, key = int(self.owner[handle]), self.keys[handle]
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
        self.dirty[list(self.handles.values())] = True
        if self.journal is not None:
            self.journal.changed()

    def changed_handles(self) -> list[int]:
        """Series whose state is newer than in the store."""
        return np.flatnonzero(self.dirty).tolist()

    def writes_of(self, handles: Sequence[int]) -> list[Write]:
        """Series as they go to the store."""
        return [self._write_of(one.handle, one.token) for one in self.checkpoints(handles)]

    def name(self, handle: int) -> str:
        """The name of a series in the store; that of no series if it is none."""
        return self.name_of(self.key(handle))

    def name_of(self, key: str) -> str:
        """The name of a series in the store."""
        return f"tidegate/{self.model.name}/{self.model.version}/{key}"

    def give_back(self, key: str, fence: int) -> None:
        """Undoes a claim in the store that started nothing here."""
        handle = self.handles.get(key)
        if handle is not None:
            # Whoever holds it here goes on, by the newer claim.
            self.fence[handle] = fence
            self._mark_changed(handle)
        elif self.journal is not None:
            self.journal.release([self.name_of(key)])

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

    def checkpoints(self, handles: Sequence[int]) -> list[Checkpoint]:
        """Tokens of series, as they are after the last whole run."""
        states = self.slots.read_all(handles)
        return [self._checkpoint(handle, own) for handle, own in zip(handles, states, strict=True)]

    def unknown(self, handle: int) -> NotFoundError:
        """The error for a handle that is not a series of the stream that sent it."""
        return NotFoundError(
            f"handle {handle} is not a live series of this stream: use the handles of `started`"
        )

    def _write_of(self, handle: int, value: bytes) -> Write:
        held = bool(self.owner[handle] != NOBODY)
        fence, identity = int(self.fence[handle]), self.identities[handle]
        return Write(self.name(handle), fence, identity, held, value)

    def _checkpoint(self, handle: int, states: list[bytes]) -> Checkpoint:
        next_offset = int(self.next_offset[handle])
        key, identity = self.keys[handle], self.identities[handle]
        token = self._signer.seal(self.model, key, identity, next_offset, states)
        return Checkpoint(handle, next_offset, token)

    def _acquire(self, opening: Opening) -> int:
        """A row for a new series; under pressure that of the series kept longest."""
        self.drop_expired()
        if self.slots.full and (longest := self._kept.longest()) is not None:
            self._drop(longest)
        handle = self.slots.acquire()
        self._grow(self.slots.size)
        self._occupy(handle, opening.key, opening.identity)
        return handle

    def _release_from_owner(self, handle: int, opening: Opening) -> None:
        owner = int(self.owner[handle])
        self._kept.discard(handle)
        if owner != NOBODY:
            self._leave(handle)
        if owner not in (NOBODY, opening.owner):
            self._on_lost(owner, handle, opening.key, self._admission.taken_over(opening.key))

    def _leave(self, handle: int) -> None:
        """Takes a live series from its stream."""
        owner = int(self.owner[handle])
        self.owner[handle] = NOBODY
        self._live.leave(owner)

    def _drop(self, handle: int) -> None:
        """Frees a kept series and remembers where it was."""
        self._kept.discard(handle)
        self._dropped.add(self.keys[handle], self.identities[handle], int(self.next_offset[handle]))
        if self.journal is not None and self.dirty[handle]:
            self.journal.leave(*self.writes_of([handle]))
        self._free(handle)

    def _mark_changed(self, handle: int) -> None:
        if self.journal is not None:
            self.dirty[handle] = True
            self.journal.changed()

    def _free(self, handle: int) -> None:
        self._vacate(handle)
        self.slots.release(handle)
