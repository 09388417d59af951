"""An executor that the test holds in its hand."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class HeldExecutor(Executor):
    """Runs what was submitted only when told to, or fails then.

    Attributes:
        submitted: Calls it was given.
    """

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.submitted = 0
        self._held: list[tuple[Future[Any], Callable[[], Any]]] = []
        self.release_at_once = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.submitted += 1
        future: Future[Any] = Future()
        self._held.append((future, lambda: fn(*args, **kwargs)))
        if self.release_at_once:
            self.release()
        return future

    @property
    def waiting(self) -> int:
        return len(self._held)

    def release(self) -> None:
        for future, call in self._held:
            if not future.set_running_or_notify_cancel():
                continue
            if self.fault:
                future.set_exception(self.fault)
            else:
                future.set_result(call())
        self._held.clear()


async def turns() -> None:
    """Lets everything that is ready happen."""
    for _ in range(10):
        await asyncio.sleep(0)
