"""One call to one of several servers, without I/O: which is asked, and when again."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from tidegate.client.errors import ResourceExhaustedError, UnavailableError
from tidegate.client.steps import Wait

if TYPE_CHECKING:
    from tidegate.client.targets import Targets


class Ask(NamedTuple):
    """Makes the call to the server of this index; its answer is sent in, or thrown in."""

    target: int


Asking: TypeAlias = Generator[Ask | Wait, Any, Any]


def ask(targets: Targets) -> Asking:
    """Asks one server after the other, and again those that say when to try again.

    The calls may be repeated: none changes anything on a server. So all servers are asked
    once more when none was there: a connection that broke says nothing of the next one.

    Raises:
        ClientError: The last server's reason, at once if waiting will not help.
    """
    retry = targets.retry
    deadline = retry.clock() + retry.seconds
    attempt = 0
    while True:
        error, pauses = None, []
        for _ in range(len(targets)):
            try:
                return (yield Ask(targets.current))
            except (UnavailableError, ResourceExhaustedError) as refusal:
                error = refusal
                targets.refused(refusal)
                if refusal.retry_seconds is None and isinstance(refusal, ResourceExhaustedError):
                    raise
                if refusal.retry_seconds is not None or attempt == 0:
                    pauses.append(targets.pause(attempt + 1))
            targets.next()
        if error is not None and (not pauses or retry.clock() + min(pauses) > deadline):
            raise error
        yield Wait(min(pauses))
        attempt += 1
