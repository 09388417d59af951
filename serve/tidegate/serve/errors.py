"""Everything the server refuses, as one exception tree with one status code each.

    ServingError
    ├── NotFoundError            a model, version, alias or handle that does not exist
    ├── InvalidArgumentError     a request that no state of the server would make valid
    │   ├── NonFiniteError       NaN or infinity where the model takes none
    │   └── CheckpointError      a token that is damaged or not signed with this server's key
    ├── FailedPreconditionError  a valid request that this model cannot serve
    │   └── CheckpointMismatchError  a genuine token of another model, version or series
    ├── OffsetGapError           rows are missing between what is known and what was sent
    ├── AlreadyExistsError       a series key that is live already
    ├── UnauthenticatedError     a call without a token that is known
    ├── PermissionDeniedError    a call that its token or identity does not allow
    ├── AbortedError             what went on until now and cannot any more
    ├── ResourceExhaustedError   a limit of the settings is reached
    ├── UnavailableError         the server is draining
    ├── PoisonedStateError       the network itself produced NaN or infinity
    └── LoadError                a model file that cannot be served

The texts go to clients: they name the argument, the value and the remedy, and
never hold anything of the server's insides.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class Code(IntEnum):
    """The codes of `google.rpc.Code` that the server uses."""

    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


# What a client reads when something failed that nobody foresaw.
INTERNAL_TEXT = "internal error; the server's log has the details"
# What it reads when its bytes are not the message of the method.
NOT_A_MESSAGE_TEXT = "the request is not a message of this method: generate the client from protos/"


class ServingError(Exception):
    """Base of all expected errors; `code` is the gRPC status it becomes.

    Args:
        message: What the client reads.
        retry_seconds: When the same request may succeed; None: waiting will not help.
    """

    code: ClassVar[Code] = Code.INTERNAL

    def __init__(self, message: str, *, retry_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class NotFoundError(ServingError):
    """Something named in the request does not exist."""

    code = Code.NOT_FOUND


class InvalidArgumentError(ServingError):
    """The request is wrong whatever the server's state."""

    code = Code.INVALID_ARGUMENT


class NonFiniteError(InvalidArgumentError):
    """A value is NaN or infinite where the model takes none."""


class CheckpointError(InvalidArgumentError):
    """A checkpoint token is damaged or not signed with this server's key."""


class FailedPreconditionError(ServingError):
    """The request fits another kind of model."""

    code = Code.FAILED_PRECONDITION


class CheckpointMismatchError(FailedPreconditionError):
    """A genuine checkpoint token belongs to another model, version or series."""


class OffsetGapError(ServingError):
    """The chunk starts after the observation expected next, at `expected_offset`."""

    code = Code.OUT_OF_RANGE

    def __init__(self, message: str, expected_offset: int) -> None:
        super().__init__(message)
        self.expected_offset = expected_offset


class AlreadyExistsError(ServingError):
    """The series key is live already."""

    code = Code.ALREADY_EXISTS


class UnauthenticatedError(ServingError):
    """The caller has shown no token that is known."""

    code = Code.UNAUTHENTICATED


class PermissionDeniedError(ServingError):
    """The caller is known, and may not do this."""

    code = Code.PERMISSION_DENIED


class AbortedError(ServingError):
    """What went on until now cannot any more."""

    code = Code.ABORTED


class ResourceExhaustedError(ServingError):
    """A limit is reached; the text names it."""

    code = Code.RESOURCE_EXHAUSTED


class UnavailableError(ServingError):
    """The server is about to stop."""

    code = Code.UNAVAILABLE


class PoisonedStateError(ServingError):
    """The network's output or state is not finite; the chunk was not applied."""


class LoadError(ServingError):
    """A model cannot be loaded."""
