"""How long to wait before the next attempt."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Retry:
    """When a lost stream is opened again, or a refused call is made again, and for how long.

    The pause before attempt n is drawn from [0, min(longest, first * 2**n)]: "full
    jitter", so that the clients of a server that died do not come back together. A
    server that says after how long to try again is not asked before.

    Attributes:
        seconds: Time after which it is given up; 0 gives up at once.
        first: Largest first pause, in seconds.
        longest: Largest pause, in seconds.
        clock: Seconds that never go back.
        draw: A number from [0, 1).
    """

    seconds: float = 60.0
    first: float = 0.05
    longest: float = 5.0
    clock: Callable[[], float] = time.monotonic
    draw: Callable[[], float] = random.random

    def pause(self, attempt: int) -> float:
        """Seconds to wait before an attempt; the first one is 0."""
        # Beyond 2**30 every pause is the longest anyhow.
        return self.draw() * min(self.longest, self.first * 2.0 ** min(attempt, 30))
