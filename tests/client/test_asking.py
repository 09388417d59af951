"""Which server a call is made to, and when again; the clock is a sum of the pauses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tidegate.client import (
    ClientError,
    InvalidArgumentError,
    ResourceExhaustedError,
    Retry,
    UnavailableError,
)
from tidegate.client.asking import ask
from tidegate.client.errors import from_series
from tidegate.client.steps import Wait
from tidegate.client.targets import Targets
from tidegate.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence


def full(seconds: float | None) -> ClientError:
    error = ResourceExhaustedError("full")
    error.retry_seconds = seconds
    return error


def play(count: int, answers: Sequence[object], seconds: float = 10) -> list[object]:
    """What is asked of servers by index, and the pauses between, up to the answer or the error."""
    waits: list[float] = []
    retry = Retry(seconds=seconds, first=0.1, clock=lambda: sum(waits), draw=lambda: 0.5)
    steps = ask(Targets(count, retry))
    done: list[object] = []
    left = iter(answers)
    try:
        step: Any = next(steps)
        while True:
            if isinstance(step, Wait):
                waits.append(step.seconds)
                done.append(f"{step.seconds:.2f} s")
                step = steps.send(None)
                continue
            done.append(step.target)
            answer = next(left)
            step = steps.throw(answer) if isinstance(answer, ClientError) else steps.send(answer)
    except StopIteration as stop:
        return [*done, stop.value]
    except ClientError as error:
        return [*done, error]


def test_the_first_server_that_is_there_answers() -> None:
    assert play(3, [UnavailableError(""), "hello"]) == [0, 1, "hello"]


def test_a_connection_that_broke_is_made_once_more() -> None:
    assert play(1, [UnavailableError("broken"), "hello"]) == [0, "0.10 s", 0, "hello"]
    gone = [UnavailableError(str(count)) for count in range(4)]
    assert play(2, gone) == [0, 1, "0.10 s", 0, 1, gone[3]]
    assert play(2, gone, seconds=0) == [0, 1, gone[1]]


def test_an_error_that_waiting_does_not_help_is_raised_at_once() -> None:
    wrong = InvalidArgumentError("wrong")
    assert play(2, [wrong]) == [0, wrong]
    over = full(None)
    assert play(2, [over]) == [0, over]


def test_a_server_is_not_asked_again_before_the_delay_that_it_named() -> None:
    # A random half of 0.2, then of 0.4 s comes on top.
    assert play(1, [full(2), full(3), "hello"]) == [0, "2.10 s", 0, "3.20 s", 0, "hello"]


def test_the_server_with_the_shortest_delay_decides_how_long_all_are_waited_for() -> None:
    assert play(2, [full(5), full(1), full(4), "hello"]) == [0, 1, "1.10 s", 0, 1, "hello"]


def test_a_delay_beyond_the_time_for_trying_again_is_raised_at_once() -> None:
    late = full(11)
    assert play(1, [late]) == [0, late]
    never = full(0.1)
    assert play(1, [never], seconds=0) == [0, never]


def test_the_delay_of_a_single_series_is_known_too() -> None:
    error = pb.SeriesError(key="a", code=8, message="full", retry_seconds=1.5)
    assert from_series(error).retry_seconds == 1.5
    assert from_series(pb.SeriesError(key="a", code=8)).retry_seconds is None


def test_a_target_pauses_for_what_is_left_of_its_delay() -> None:
    now = [100.0]
    targets = Targets(2, Retry(first=0.1, clock=lambda: now[0], draw=lambda: 0.5))
    targets.refused(full(3))
    assert targets.pause(1) == pytest.approx(3.1)
    targets.next()
    assert targets.pause(1) == pytest.approx(0.1)
    targets.next()
    now[0] = 102.0
    assert targets.pause(2) == pytest.approx(1.2)
    now[0] = 104.0
    assert targets.pause(0) == 0
