"""How a stream goes on when its server is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from tidegate.client.errors import (
    AlreadyExistsError,
    ClientError,
    ResourceExhaustedError,
    UnavailableError,
)
from tidegate.client.messages import parts
from tidegate.client.steps import Connect, Steps, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from tidegate.client.backoff import Retry
    from tidegate.client.conversation import Conversation
    from tidegate.client.series import Series

T = TypeVar("T")

# Another server, or the same one a little later, may do what one refuses so.
_PASSING = (UnavailableError, ResourceExhaustedError, AlreadyExistsError)


class Resuming:
    """Does operations of a conversation, on another server when the one there is gets lost.

    Attributes:
        is_connected: Whether the last call is of use.

    Args:
        conversation: The series.
        targets: How many servers there are to choose from.
        retry: When to try again.
        can_resume: Whether there are checkpoints to go on from.
    """

    def __init__(
        self, conversation: Conversation, targets: int, retry: Retry, *, can_resume: bool
    ) -> None:
        self._conversation = conversation
        self._targets = targets
        self._target = 0
        self._retry = retry
        self._can_resume = can_resume
        self.is_connected = False

    def open(self, start: Callable[[], Steps[None]]) -> Steps[None]:
        """Starts series on the first server that takes them."""
        for attempt in range(self._targets):
            try:
                yield Connect(self._target)
                self.is_connected = True
                yield from start()
            except (UnavailableError, ResourceExhaustedError):
                self.is_connected = False
                self._conversation.series.clear()
                if attempt + 1 == self._targets:
                    raise
                self._next_target()
            else:
                return

    def run(self, operation: Callable[[], Steps[T]]) -> Steps[T]:
        """Does something, anew on another server whenever the one there is gets lost."""
        while True:
            if not self.is_connected:
                yield from self._resume(UnavailableError("the stream has ended"), attempt=0)
            try:
                result = yield from operation()
            except UnavailableError as error:
                if error.series:
                    raise
                self.is_connected = False
                yield from self._resume(error, attempt=1)
            except ClientError as error:
                # One that is about the call has ended it.
                self.is_connected = self.is_connected and bool(error.series)
                raise
            except BaseException:
                # Half an answer may be left.
                self.is_connected = False
                raise
            else:
                # With one server there is nowhere to go before it has stopped.
                if self._conversation.is_leaving and self._targets > 1 and self._can_resume:
                    yield from self._resume(UnavailableError("the server is stopping"), attempt=0)
                return result

    def _resume(self, error: ClientError, attempt: int) -> Steps[None]:
        """Goes on with all series elsewhere.

        Raises:
            ClientError: Why the last attempt failed.
        """
        retry = self._retry
        if not self._can_resume or not retry.seconds:
            raise error
        deadline = retry.clock() + retry.seconds
        while True:
            self._next_target()
            pause = retry.pause(attempt) if attempt else 0.0
            if retry.clock() + pause > deadline:
                raise error
            if pause:
                yield Wait(pause)
            attempt += 1
            try:
                yield from self._reconnect()
            except _PASSING as again:
                error = again
            else:
                return

    def _next_target(self) -> None:
        self._target = (self._target + 1) % self._targets

    def _reconnect(self) -> Steps[None]:
        conversation = self._conversation
        yield Connect(self._target)
        conversation.begin()
        starts = [series.restart() for series in conversation.series.values()]
        refusals = yield from conversation.start(starts, conversation.series.__getitem__)
        for refusal in refusals:
            if isinstance(refusal, _PASSING):
                raise refusal
            conversation.refuse(refusal)
        yield from self._catch_up()
        self.is_connected = True

    def _catch_up(self) -> Steps[None]:
        """Sends again what the checkpoints do not cover; its answers are here already."""
        sent = {series: series.saved_offset for series in self._conversation.series.values()}
        while chunks := self._unsent(sent):
            for part in parts(chunks, [rows.nbytes for _, rows in chunks]):
                again = {series: (sent[series], rows) for series, rows in part}
                yield from self._conversation.observe(
                    again, lambda *_: None, self._conversation.refuse
                )
            sent = {series: sent[series] + len(rows) for series, rows in chunks}

    def _unsent(self, sent: Mapping[Series, int]) -> list[tuple[Series, NDArray[np.float32]]]:
        """The next chunk of each series that is live and has one."""
        live = self._conversation.series
        chunks = [(series, series.chunk_at(offset)) for series, offset in sent.items()]
        return [(one, rows) for one, rows in chunks if rows is not None and one.key in live]
