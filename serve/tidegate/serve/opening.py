"""What a stream asks for when it starts a series, and what it gets."""

from __future__ import annotations

from typing import NamedTuple


class Opening(NamedTuple):
    """The wish of a stream to start one series.

    Attributes:
        owner: Number of the stream.
        identity: Who opened that stream; empty if anybody may.
        key: Names the series.
        take_over: Whether it may be live in another stream of the identity.
        reset: Whether to begin anew, whatever is kept.
        checkpoint_every: Observations between checkpoints; 0: none.
        every_step: Whether each row is answered.
        first_offset: Where it begins if it begins anew.
    """

    owner: int
    identity: str
    key: str
    take_over: bool = False
    reset: bool = False
    checkpoint_every: int = 0
    every_step: bool = False
    first_offset: int = 0


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
