"""Talks to tidegate servers: forecasts along live series, labels for sentences.

`Client` blocks; `tidegate.client.aio.Client` is awaited.
"""

from tidegate.client.backoff import Retry
from tidegate.client.channel import Security
from tidegate.client.client import Client
from tidegate.client.errors import (
    AbortedError,
    AlreadyExistsError,
    ClientError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    OffsetError,
    PermissionDeniedError,
    ResourceExhaustedError,
    ServerError,
    SupersededError,
    UnauthenticatedError,
    UnavailableError,
)
from tidegate.client.requests import Annotation, ModelInfo
from tidegate.client.stream import ForecastStream
from tidegate.client.superseding import Superseded, replay_history

__all__ = [
    "AbortedError",
    "AlreadyExistsError",
    "Annotation",
    "Client",
    "ClientError",
    "FailedPreconditionError",
    "ForecastStream",
    "InvalidArgumentError",
    "ModelInfo",
    "NotFoundError",
    "OffsetError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "Retry",
    "Security",
    "ServerError",
    "Superseded",
    "SupersededError",
    "UnauthenticatedError",
    "UnavailableError",
    "replay_history",
]
