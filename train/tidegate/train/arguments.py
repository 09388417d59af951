"""Checks of arguments, with errors that name the argument, the value and the remedy."""

import difflib
from collections.abc import Iterable


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Checks that a value is one of the choices.

    Raises:
        ValueError: it is not; the text suggests the nearest.
    """
    choices = tuple(choices)
    if value not in choices:
        raise ValueError(
            f"{name}={value!r} is unknown; {did_you_mean(str(value), choices)}"
            f"use one of {', '.join(repr(choice) for choice in choices)}"
        )


def check_positive(name: str, value: object) -> None:
    """Checks that a value is a whole number of at least 1.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}={value!r} is out of range; give a whole number from 1 up")


def did_you_mean(value: str, choices: Iterable[str]) -> str:
    """A suggestion to put into an error's text, or nothing."""
    nearest = difflib.get_close_matches(value, list(choices), n=1)
    return f"did you mean {nearest[0]!r}? " if nearest else ""
