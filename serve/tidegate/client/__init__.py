"""Talks to a tidegate server: forecasts along live series, labels for sentences."""

from tidegate.client.channel import Security
from tidegate.client.client import Annotation, Client, ModelInfo
from tidegate.client.errors import (
    AlreadyExistsError,
    ClientError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    OffsetError,
    PermissionDeniedError,
    ResourceExhaustedError,
    ServerError,
    UnauthenticatedError,
    UnavailableError,
)
from tidegate.client.stream import ForecastStream

__all__ = [
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
    "Security",
    "ServerError",
    "UnauthenticatedError",
    "UnavailableError",
]
