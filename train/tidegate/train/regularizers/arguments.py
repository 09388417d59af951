"""Arguments that several methods take."""

from typing import Literal

from tidegate.train.rates import Rate, as_rate, rate_at

Granularity = Literal["step", "sequence"]


def check_granularity(value: str) -> None:
    """Checks that a mask is drawn for each step or each sequence.

    Raises:
        ValueError: it is neither.
    """
    if value not in ("step", "sequence"):
        raise ValueError(f"granularity={value!r} is unknown; use 'step' or 'sequence'")


def top_output_rate(p: Rate, output_p: float | None) -> float:
    """The rate on the top output: its own, or that of the last layer's input."""
    return rate_at(p, -1, 0) if output_p is None else output_p


def check_output_rate(p: Rate, output_p: float | None) -> None:
    """Checks that the top output has one rate.

    Raises:
        ValueError: it is no number, or would follow from two.
    """
    if output_p is not None:
        if isinstance(as_rate("output_p", output_p), tuple):
            raise ValueError(f"output_p={output_p!r}: there is one top output; give a number")
    elif isinstance(p, tuple) and isinstance(p[-1], tuple) and p[-1][0] != p[-1][1]:
        raise ValueError(
            f"p={p!r} has two rates for the last layer, so that the top output has none; give "
            "output_p"
        )
