"""What the server counts, as plain numbers.

The event loop alone writes them, so that counting costs an addition and no lock;
`metrics` reads them when it is asked.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

ROW_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192)
SECOND_BOUNDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip


class Histogram:
    """Counts of values up to each bound, and one above the last.

    Attributes:
        bounds: Upper bounds, ascending.
        counts: Values in each interval; one more than there are bounds.
        total: Sum of all values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Adds one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class ModelStats:
    """What one version of a model has done.

    Attributes:
        rows: Rows of each run of the network, padding included.
        queue_seconds: For each batch, how long its oldest message waited.
        run_seconds: Time of each run.
        steps: Observations or tokens that were run.
    """

    __slots__ = ("queue_seconds", "rows", "run_seconds", "steps")

    def __init__(self) -> None:
        self.rows = Histogram(ROW_BOUNDS)
        self.queue_seconds = Histogram(SECOND_BOUNDS)
        self.run_seconds = Histogram(SECOND_BOUNDS)
        self.steps = 0

    def record_run(self, rows: int, seconds: float) -> None:
        """Counts one run of the network, of so many rows with their padding."""
        self.rows.observe(rows)
        self.run_seconds.observe(seconds)


class ServerStats:
    """What the server as a whole has done.

    Attributes:
        calls: Ended calls by method and status.
        errors: Refusals by status and model: of calls, and of single series
            within a stream. The model is empty where none was named rightly.
        received_bytes: Of messages, before decompression.
        sent_bytes: Of messages, before compression.
    """

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()
        self.errors: Counter[tuple[str, str]] = Counter()
        self.received_bytes = 0
        self.sent_bytes = 0
