"""What the client's side of a stream asks of whoever does its I/O.

Each operation is a generator of steps: it yields what is to be done, gets the
result sent in, or the error thrown in, and returns its value. What drives it may
block or await: the rules are in the generators, once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeAlias, TypeVar

from tidegate.v1 import inference_pb2 as pb

Request = pb.StreamForecastRequest
Response = pb.StreamForecastResponse
T = TypeVar("T")


class Connect(NamedTuple):
    """Gives up the call there is, and begins one with the server of this index."""

    target: int


class Send(NamedTuple):
    """Sends a message; one that is lost shows when the answer is received."""

    request: Request


class Receive(NamedTuple):
    """Waits for a message."""


class Consult(NamedTuple):
    """Calls a function of the caller's, which may be one to be awaited."""

    function: Callable[[Any], Any]
    argument: object


class Wait(NamedTuple):
    """Lets time pass."""

    seconds: float


Step: TypeAlias = Connect | Send | Receive | Consult | Wait
Steps: TypeAlias = Generator[Step, Any, T]
