"""Ctrl-C in the process that asked Ray's workers to train, told to the workers."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from tidegate.train.fit import Interruption


class _Stop:
    """An actor that is asked once to stop, and tells whoever waits for it."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()

    async def ask(self) -> None:
        """Wakes those that wait."""
        self._asked.set()

    async def wait(self) -> None:
        """Returns when someone has asked."""
        await self._asked.wait()


def start_stop() -> Any:  # noqa: ANN401 # Ray's handle
    """Starts the actor, which needs no processor of its own."""
    return ray.remote(_Stop).options(num_cpus=0, max_concurrency=1000).remote()


class RemoteInterruption(Interruption):
    """Takes the actor's word as the request to stop.

    Args:
        stop: from :func:`start_stop`.
    """

    def __init__(self, stop: Any) -> None:  # noqa: ANN401 # Ray's handle
        super().__init__(is_patient=True)
        threading.Thread(target=self._listen, args=(stop,), daemon=True).start()

    def _listen(self, stop: Any) -> None:  # noqa: ANN401 # Ray's handle
        ray.get(stop.wait.remote())
        self.requested = True


@contextmanager
def passed_on(stop: Any) -> Iterator[None]:  # noqa: ANN401 # Ray's handle
    """Passes SIGINT on to the actor within the block; a second one has its usual effect."""
    with Interruption(on_request=lambda: stop.ask.remote()):
        yield
