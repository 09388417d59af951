"""How a stream goes on when its server is gone, and when its version is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from tidegate.client.errors import (
    AbortedError,
    AlreadyExistsError,
    ClientError,
    ResourceExhaustedError,
    SupersededError,
    UnavailableError,
)
from tidegate.client.messages import parts
from tidegate.client.steps import Connect, Consult, Steps, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from tidegate.client.conversation import Conversation
    from tidegate.client.series import Series
    from tidegate.client.targets import Targets

T = TypeVar("T")

# Another server, or the same one a little later, may do what one refuses so.
_PASSING = (UnavailableError, ResourceExhaustedError, AlreadyExistsError)


class Resuming:
    """Does operations of a conversation, on another server when the one there is gets lost.

    Attributes:
        is_connected: Whether the last call is of use.

    Args:
        conversation: The series.
        targets: The servers, and when each may be asked again.
        can_resume: Whether there are checkpoints to go on from.
        on_superseded: Says what a new version reads first; None: there is no restart.
    """

    def __init__(
        self,
        conversation: Conversation,
        targets: Targets,
        *,
        can_resume: bool,
        on_superseded: Callable[[Any], Any] | None,
    ) -> None:
        self._conversation = conversation
        self._targets = targets
        self._can_resume = can_resume
        self._on_superseded = on_superseded
        self.is_connected = False

    def open(self, start: Callable[[], Steps[None]]) -> Steps[None]:
        """Starts series on the first server that takes them."""
        for attempt in range(len(self._targets)):
            try:
                yield Connect(self._targets.current)
                self.is_connected = True
                yield from start()
            except (UnavailableError, ResourceExhaustedError):
                self.is_connected = False
                self._conversation.series.clear()
                if attempt + 1 == len(self._targets):
                    raise
                self._targets.next()
            else:
                return

    def run(self, operation: Callable[[], Steps[T]]) -> Steps[T]:
        """Does something, anew on another server whenever the one there is gets lost."""
        while True:
            yield from self._ready()
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
                if self.is_connected or not self._ended_superseded(error):
                    raise
            except BaseException:
                # Half an answer may be left.
                self.is_connected = False
                raise
            else:
                yield from self._leave()
                return result

    def _ready(self) -> Steps[None]:
        """Sees to it that there is a call, of the version that the server wants to be used."""
        if self._conversation.is_superseded and self._on_superseded is not None:
            try:
                yield from self._restart()
            except _PASSING as error:
                yield from self._resume(error, attempt=1)
        elif not self.is_connected:
            yield from self._resume(UnavailableError("the stream has ended"), attempt=0)

    def _ended_superseded(self, error: ClientError) -> bool:
        """Whether the server does not run the stream's version, or not any longer.

        Raises:
            SupersededError: It does not, and the caller wants no restart.
        """
        about_call = isinstance(error, AbortedError) and not error.series
        if not (about_call and self._conversation.is_superseded):
            return False
        if self._on_superseded is None:
            raise SupersededError(str(error)) from error
        return True

    def _leave(self) -> Steps[None]:
        """Goes elsewhere if the server is about to stop; with one server there is nowhere to go."""
        if not (self._conversation.is_leaving and len(self._targets) > 1 and self._can_resume):
            return
        try:
            yield from self._resume(UnavailableError("the server is stopping"), attempt=0)
        except ClientError:
            # What was asked for is answered; whoever asks next is told.
            self.is_connected = False

    def _resume(self, error: ClientError, attempt: int) -> Steps[None]:
        """Goes on with all series elsewhere.

        Raises:
            ClientError: Why the last attempt failed.
        """
        retry = self._targets.retry
        if not self._can_resume or not retry.seconds:
            raise error
        deadline = retry.clock() + retry.seconds
        self._targets.refused(error)
        while True:
            self._targets.next()
            pause = self._targets.pause(attempt)
            if retry.clock() + pause > deadline:
                raise error
            if pause:
                yield Wait(pause)
            attempt += 1
            try:
                yield from self._reconnect()
            except _PASSING as again:
                self._targets.refused(again)
                error = again
            else:
                return

    def _reconnect(self) -> Steps[None]:
        yield Connect(self._targets.current)
        self._conversation.begin()
        try:
            yield from self._start_again()
        except AbortedError as error:
            if not self._ended_superseded(error):
                raise
            yield from self._restart()

    def _restart(self) -> Steps[None]:
        """Begins anew on the version that is served by now; states of two are never mixed."""
        self.is_connected = False
        yield Connect(self._targets.current)
        self._conversation.begin()
        successor = yield from self._conversation.look_ahead()
        if successor.version != self._conversation.version or not self._can_resume:
            notice = self._conversation.superseded_by(successor)
            histories = yield Consult(self._on_superseded or dict, notice)
            self._conversation.begin_anew(successor, histories)
        yield from self._start_again()

    def _start_again(self) -> Steps[None]:
        conversation = self._conversation
        starts = [series.restart() for series in conversation.series.values()]
        refusals = yield from conversation.start(starts)
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
