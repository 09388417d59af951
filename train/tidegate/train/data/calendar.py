"""Positions in the day, the week and the year: what a clock tells of an observation."""

import numpy as np
from numpy.typing import NDArray

# Name of each position to its start (as numpy rounds down to it) and its length in days.
POSITIONS = {
    "time_of_day": ("D", 1.0),
    "day_of_week": ("W", 7.0),
    "day_of_year": ("Y", 365.2425),
}


def position(
    name: str, times: NDArray[np.datetime64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sine and cosine of a position, each [rows]; one period is one turn.

    Args:
        name: of :data:`POSITIONS`. A week begins on Thursday, as numpy counts.
        times: [rows].
    """
    start, length = POSITIONS[name]
    days = (times - times.astype(f"datetime64[{start}]")) / np.timedelta64(1, "D")
    angle = 2 * np.pi * days / length
    return np.sin(angle), np.cos(angle)
