"""Whether a stream may start a series."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.serve.columns import NOBODY
from tidegate.serve.errors import (
    AbortedError,
    AlreadyExistsError,
    InvalidArgumentError,
    PermissionDeniedError,
)

if TYPE_CHECKING:
    from tidegate.serve.columns import Columns
    from tidegate.serve.live_series import LiveSeries
    from tidegate.serve.opening import Opening
    from tidegate.serve.settings import Settings

# No series lives long enough to count from here to the end of 64 bits.
_MAX_FIRST_OFFSET = 2**63


class Admission:
    """The rules of ownership, and the limits of keys and streams.

    Args:
        label: The model as texts name it.
        settings: Limits.
        live: Live series of each stream and connection.
    """

    def __init__(self, label: str, settings: Settings, live: LiveSeries) -> None:
        self._live = live
        self._label = label
        self._settings = settings

    def check(self, opening: Opening, series: Columns) -> None:
        """Refuses a start that cannot succeed; changes nothing.

        Args:
            opening: The start.
            series: Those there are.

        Raises:
            InvalidArgumentError: The key is empty or too long, or the first offset too large.
            PermissionDeniedError: The series belongs to another identity.
            AlreadyExistsError: The series is live, and is not to be taken over.
            ResourceExhaustedError: The stream or its connection has as many series as it may.
        """
        self._check_key(opening.key)
        self._check_first_offset(opening)
        handle = series.handles.get(opening.key)
        if handle is not None:
            self._check_claim(handle, opening, series)
        if handle is None or not series.owns(opening.owner, handle):
            self._live.check(opening.owner)

    def taken_over(self, key: str) -> AbortedError:
        """The error for a stream that lost a series to another one."""
        return AbortedError(
            f"series {key!r} of {self._label} was taken over by another stream of its "
            "identity: go on there, or start it here again with take_over"
        )

    def _check_key(self, key: str) -> None:
        limit = self._settings.max_key_bytes
        if not key or len(key.encode()) > limit:
            raise InvalidArgumentError(
                f"series key {key[:40]!r} has {len(key.encode())} bytes: use 1 to {limit}"
            )

    def _check_first_offset(self, opening: Opening) -> None:
        if opening.first_offset > _MAX_FIRST_OFFSET:
            raise InvalidArgumentError(
                f"series {opening.key!r}: first_offset is {opening.first_offset}, the largest is "
                f"{_MAX_FIRST_OFFSET}"
            )

    def _check_claim(self, handle: int, opening: Opening, series: Columns) -> None:
        if series.identities[handle] != opening.identity:
            raise PermissionDeniedError(
                f"series {opening.key!r} of {self._label} belongs to another identity: "
                "use another key"
            )
        if series.owner[handle] != NOBODY and not opening.take_over:
            raise AlreadyExistsError(
                f"series {opening.key!r} of {self._label} is live: end the stream that holds "
                "it, start it with take_over, or use another key"
            )
