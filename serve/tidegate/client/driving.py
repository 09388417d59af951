"""Runs generators of steps to their end: they say what to do, a driver does it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

from tidegate.client.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

S = TypeVar("S")
T = TypeVar("T")


def drive(steps: Generator[S, Any, T], perform: Callable[[S], object]) -> T:
    """Performs what an operation asks for, and returns its value.

    Args:
        steps: The operation; it gets each step's result, or the ClientError that it raised.
        perform: Does one step.
    """
    with closing(steps):
        try:
            step = next(steps)
            while True:
                try:
                    result = perform(step)
                except ClientError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as done:
            value: T = done.value
            return value


async def drive_async(steps: Generator[S, Any, T], perform: Callable[[S], Awaitable[object]]) -> T:
    """The same, awaited."""
    with closing(steps):
        try:
            step = next(steps)
            while True:
                try:
                    result = await perform(step)
                except ClientError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as done:
            value: T = done.value
            return value
