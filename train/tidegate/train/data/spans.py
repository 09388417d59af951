"""Spans of words behind labels such as B-city, I-city, O.

The reading is that of conlleval, the script of the CoNLL shared tasks: a
span begins at B- or S-, after an end (E- or S-), and wherever the kind changes,
so that an I- without a B- before it begins one too.
Source: Tjong Kim Sang and Buchholz 2000, the CoNLL-2000 shared task.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

OUTSIDE = "O"
PREFIXES = ("B", "I", "E", "S")

Scheme = Literal["as_is", "bio", "iobes"]


class Span(NamedTuple):
    """Words from start up to and without stop, of one kind."""

    start: int
    stop: int
    kind: str


def are_span_labels(labels: Iterable[str]) -> bool:
    """Whether labels are O or a prefix B-, I-, E- or S- with a kind, and not only O."""
    known = set(labels) - {OUTSIDE}
    return bool(known) and all(label[:2] in _STARTS and len(label) > 2 for label in known)


def spans(labels: Sequence[str]) -> list[Span]:
    """The spans of a sentence's labels, in their order.

    Raises:
        ValueError: a label is neither O nor a prefix with a kind.
    """
    found: list[Span] = []
    start, before, kind_before = 0, OUTSIDE, ""
    for position, label in enumerate([*labels, OUTSIDE]):
        prefix, kind = _parts(label)
        begins = prefix != OUTSIDE and (prefix in "BS" or before in "ESO" or kind != kind_before)
        ended = before != OUTSIDE and (begins or prefix == OUTSIDE)
        if ended:
            found.append(Span(start, position, kind_before))
        if begins:
            start = position
        before, kind_before = prefix, kind
    return found


def convert(labels: Sequence[str], scheme: Scheme) -> tuple[str, ...]:
    """The same spans in another scheme.

    Args:
        labels: of one sentence, in any scheme.
        scheme: "bio": B- begins each span. "iobes": E- also ends each, and S- is a
            span of one word. "as_is": unchanged.

    Raises:
        ValueError: a label is neither O nor a prefix with a kind.
    """
    if scheme == "as_is":
        return tuple(labels)
    converted = [OUTSIDE] * len(labels)
    for one in spans(labels):
        length = one.stop - one.start
        for offset in range(length):
            prefix = _WRITERS[scheme](offset, length)
            converted[one.start + offset] = f"{prefix}-{one.kind}"
    return tuple(converted)


def _bio(offset: int, _: int) -> str:
    return "B" if offset == 0 else "I"


def _iobes(offset: int, length: int) -> str:
    if length == 1:
        return "S"
    return {0: "B", length - 1: "E"}.get(offset, "I")


_WRITERS: dict[str, Callable[[int, int], str]] = {"bio": _bio, "iobes": _iobes}
_STARTS = tuple(f"{prefix}-" for prefix in PREFIXES)


def _parts(label: str) -> tuple[str, str]:
    """("B", "city") of "B-city"."""
    if label == OUTSIDE:
        return OUTSIDE, ""
    if label[:2] not in _STARTS or len(label) < 3:
        raise ValueError(
            f"label {label!r} is no part of a span; use O or a kind after B-, I-, E- or S-"
        )
    return label[0], label[2:]
