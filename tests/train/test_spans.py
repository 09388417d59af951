"""Spans behind labels, as conlleval reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.train.data.spans import Scheme, Span, are_span_labels, convert, spans

LABELS = st.lists(
    st.sampled_from(["O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in ("x", "y.z"))]),
    max_size=12,
)


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ("O O", []),
        ("B-x I-x O", [(0, 2, "x")]),
        # Begun anew beside each other.
        ("B-x B-x", [(0, 1, "x"), (1, 2, "x")]),
        # Without a B- before it.
        ("O I-x I-x O I-x", [(1, 3, "x"), (4, 5, "x")]),
        # Of another kind than what it follows.
        ("B-x I-y I-y", [(0, 1, "x"), (1, 3, "y")]),
        ("I-x I-y", [(0, 1, "x"), (1, 2, "y")]),
        ("B-x I-x E-x S-y S-y", [(0, 3, "x"), (3, 4, "y"), (4, 5, "y")]),
        # After an end a new one begins, whatever its prefix.
        ("S-x I-x", [(0, 1, "x"), (1, 2, "x")]),
        ("E-x E-x", [(0, 1, "x"), (1, 2, "x")]),
        ("B-x E-x I-x", [(0, 2, "x"), (2, 3, "x")]),
        # An end that never comes.
        ("B-x I-x S-x", [(0, 2, "x"), (2, 3, "x")]),
        ("B-from.city-name I-from.city-name", [(0, 2, "from.city-name")]),
    ],
)
def test_spans_begin_and_end_as_conlleval_says(
    labels: str, found: list[tuple[int, int, str]]
) -> None:
    assert spans(labels.split()) == [Span(*one) for one in found]


@given(LABELS, st.sampled_from(["bio", "iobes"]))
def test_another_scheme_has_the_same_spans(labels: list[str], scheme: Scheme) -> None:
    converted = convert(labels, scheme)
    assert spans(converted) == spans(labels)
    assert convert(converted, scheme) == converted
    allowed = {"O", "B", "I"} if scheme == "bio" else {"O", "B", "I", "E", "S"}
    assert {label[0] for label in converted} <= allowed


def test_schemes_are_written_as_their_names_say() -> None:
    labels = ["I-x", "O", "B-x", "I-x", "I-x", "B-y", "I-y"]
    assert " ".join(convert(labels, "bio")) == "B-x O B-x I-x I-x B-y I-y"
    assert " ".join(convert(labels, "iobes")) == "S-x O B-x I-x E-x B-y E-y"
    assert convert(["NOUN"], "as_is") == ("NOUN",)


def test_a_label_without_a_kind_is_refused() -> None:
    for label in ("NOUN", "B-", "X-city"):
        with pytest.raises(ValueError, match=f"label '{label}' is no part of a span; use O or"):
            spans(["O", label])


def test_labels_are_of_spans_only_when_all_of_them_are() -> None:
    assert are_span_labels(["O", "B-x", "I-x"])
    assert not are_span_labels(["O"])
    assert not are_span_labels(["O", "NOUN", "B-x"])
