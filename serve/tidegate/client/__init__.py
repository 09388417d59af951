"""Talks to a tidegate server: forecasts along live series, labels for sentences."""

from tidegate.client.client import Annotation, Client, ModelInfo
from tidegate.client.errors import (
    AlreadyExistsError,
    ClientError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    OffsetError,
    ResourceExhaustedError,
    ServerError,
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
    "ResourceExhaustedError",
    "ServerError",
    "UnavailableError",
]
