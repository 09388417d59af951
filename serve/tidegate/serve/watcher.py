"""Looks for new models again and again."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Executor

    from tidegate.serve.repository import Repository

# Replicas that were started together must not ask together for ever.
_JITTER = 0.2
_LONGEST_PAUSE = 60.0

logger = logging.getLogger(__name__)


class Watcher:
    """Polls a repository's source from a thread, and serves what is new.

    Args:
        repository: The models.
        executor: The thread that loads them.
        changed: Called after what is served has changed.
    """

    def __init__(
        self, repository: Repository, executor: Executor, changed: Callable[[], Awaitable[None]]
    ) -> None:
        self._repository = repository
        self._executor = executor
        self._changed = changed
        # Its own: it runs beside what the same process may draw by a seed.
        self._random = random.Random()  # noqa: S311 - no secret

    async def poll(self) -> None:
        """Looks once."""
        loop = asyncio.get_running_loop()
        loaded = await loop.run_in_executor(self._executor, self._repository.prepare)
        if self._repository.apply(loaded):
            await self._changed()

    async def run(self, seconds: float) -> None:
        """Looks again after about so many seconds, until it is cancelled."""
        pause = seconds
        while True:
            await asyncio.sleep(pause * self._random.uniform(1 - _JITTER, 1 + _JITTER))
            try:
                await self.poll()
            except Exception:
                # What is served goes on being served.
                logger.exception("looking for new models failed")
            failing = self._repository.is_source_failing
            # A registry that is down is not helped by being asked more often.
            pause = min(2 * pause, max(seconds, _LONGEST_PAUSE)) if failing else seconds
