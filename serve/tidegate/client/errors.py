"""What can go wrong, with the server's own text.

ClientError
├── InvalidArgumentError     the request is wrong
├── NotFoundError            no such model, version, alias or series
├── AlreadyExistsError       the series key is live in another stream
├── AbortedError             the series was taken over by another stream
│   └── SupersededError      the model was: its states mean nothing to the next version
├── FailedPreconditionError  the model, or the checkpoint, is of another kind
├── ResourceExhaustedError   a limit of the server is reached
├── OffsetError              observations before these are missing on the server
├── UnauthenticatedError     the server wants a token, or knows another one
├── PermissionDeniedError    the token or the identity may not do this
├── UnavailableError         no server, or it is stopping: try another one
└── ServerError              anything else
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from tidegate.v1 import inference_pb2

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ClientError(Exception):
    """Base of all errors of the client.

    Attributes:
        series: The key of the series it is about; empty if it is about the call.
        retry_seconds: When the server says that the same may succeed; None: it does not say.
        forecasts: The forecasts of the other series of the same message, by key.
    """

    def __init__(self, message: str, series: str = "") -> None:
        super().__init__(message)
        self.series = series
        self.retry_seconds: float | None = None
        self.forecasts: dict[str, NDArray[np.float32]] = {}


class InvalidArgumentError(ClientError):
    """The request is wrong."""


class NotFoundError(ClientError):
    """No such model, version, alias or series."""


class AlreadyExistsError(ClientError):
    """The series key is live in another stream."""


class AbortedError(ClientError):
    """The series was taken over by another stream."""


class SupersededError(AbortedError):
    """The version of a stream's model was replaced, and there is no restart on the next."""


class FailedPreconditionError(ClientError):
    """The model, or the checkpoint, is of another kind."""


class ResourceExhaustedError(ClientError):
    """A limit of the server is reached."""


class OffsetError(ClientError):
    """Observations before these are missing on the server."""


class UnauthenticatedError(ClientError):
    """The server wants a token, or does not know the one that it got."""


class PermissionDeniedError(ClientError):
    """The token or the identity is not allowed to do this."""


class UnavailableError(ClientError):
    """There is no server, or it is stopping."""


class ServerError(ClientError):
    """The server failed."""


_TYPES: dict[grpc.StatusCode, type[ClientError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.ABORTED: AbortedError,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhaustedError,
    grpc.StatusCode.OUT_OF_RANGE: OffsetError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    # A server that stops cancels what is left.
    grpc.StatusCode.CANCELLED: UnavailableError,
}
# gRPC reports some lost connections as INTERNAL or UNKNOWN, which no server of ours has sent.
_LOST_CONNECTION = ("Internal error from Core", "RST_STREAM", "Stream removed")
# gRPC's own words, which name the sizes but not the remedy.
_TOO_LARGE = "larger than max"
_BY_NUMBER = {status.value[0]: kind for status, kind in _TYPES.items()}


def from_rpc(error: grpc.RpcError) -> ClientError:
    """Our error for one of gRPC's."""
    # What a call raises is a Call too, which the base class does not say.
    status, text = getattr(error, "code", None), getattr(error, "details", None)
    if not (callable(status) and callable(text)):
        return ServerError(str(error))
    code, details = status(), text() or ""
    kind = _TYPES.get(code, ServerError)
    if kind is ServerError and any(part in details for part in _LOST_CONNECTION):
        kind = UnavailableError
    if kind is ResourceExhaustedError and _TOO_LARGE in details:
        details += ": send less in each message, or raise --max-message-bytes of the server"
    typed = kind(details or code.name)
    typed.retry_seconds = _retry_seconds(error)
    return typed


def from_series(error: inference_pb2.SeriesError) -> ClientError:
    """Our error for one of a single series."""
    typed = _BY_NUMBER.get(error.code, ServerError)(error.message, error.key)
    typed.retry_seconds = error.retry_seconds or None
    return typed


def _retry_seconds(error: grpc.RpcError) -> float | None:
    """The delay of google.rpc.RetryInfo, which the server sends with some errors."""
    metadata: Any = getattr(error, "trailing_metadata", tuple)() or ()
    details = dict(metadata).get("grpc-status-details-bin")
    if not isinstance(details, bytes):
        return None
    for detail in status_pb2.Status.FromString(details).details:
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(retry):
            return float(retry.retry_delay.ToMilliseconds()) / 1e3
    return None
