"""What goes to a state store and comes back."""

from __future__ import annotations

from typing import NamedTuple


class Claim(NamedTuple):
    """The wish to hold one series.

    Attributes:
        name: Of the series, unique over models and versions.
        key: Of the series, for texts.
        identity: Whom it belongs to.
        take_over: Whether another replica may hold it.
    """

    name: str
    key: str
    identity: str
    take_over: bool


class Claimed(NamedTuple):
    """A series that this replica holds from now on.

    Attributes:
        fence: Goes with every write.
        before: The fencing number of the claim before; 0: there was none.
        value: What is stored; empty: nothing.
    """

    fence: int
    before: int
    value: bytes


class Write(NamedTuple):
    """A value to store.

    Attributes:
        name: Of the series.
        fence: From the claim; 0 where Redis could not be asked for one.
        identity: Whom the series belongs to.
        held: Whether a stream of this replica holds it.
        value: Offset and state; empty: the series is finished.
    """

    name: str
    fence: int
    identity: str
    held: bool
    value: bytes
