"""Options that have no meaning, and those for which a network has no place."""

import math

import pytest

from support.recurrent_cases import Case
from tidegate.train import RNNDrop, Semeniuta, Variational, WeightDrop, Zaremba, Zoneout
from tidegate.train.regularizers import Regularizer


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: Zaremba((0.1, 1.5)), r"p\[1\]=1.5 is not a probability"),
        (lambda: Zaremba((0.1, (0.2, -1))), r"p\[1\]\[1\]=-1 is not a probability"),
        (lambda: Zaremba(()), r"p=\(\) is empty; give a number, or one entry for each layer"),
        (lambda: Zaremba(((0.1, 0.2, 0.3),)), r"p\[0\]=\(0.1, 0.2, 0.3\) has 3 entries"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda: Zaremba("0.1"), "p='0.1' is not a probability"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda: Zaremba(((0.1, 0.2),)), "two rates for the last layer, .* give output_p"),
        (lambda: Zaremba(0.1, output_p=(0.1,)), "one top output; give a number"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda: Variational(0.1, hidden_p=2.0), "hidden_p=2.0 is not a probability"),
        (lambda: Zoneout(cell=(0.1, math.nan)), r"cell\[1\]=nan is not a probability"),
        (lambda: Zaremba(0.1, granularity="steps"), "granularity='steps' is unknown"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda: RNNDrop(0.1, granularity="step"), r"a memory must not be dropped .* k\*\*t"),
        (lambda: Zoneout(cell=0.5, hidden=0.1, shared=True), "one mask has one rate; give both"),
    ],
)
def test_an_option_without_meaning_is_refused_with_the_reason(build: object, text: str) -> None:
    assert callable(build)
    with pytest.raises(ValueError, match=text):
        build()


@pytest.mark.parametrize(
    ("case", "method", "text"),
    [
        (Case("lstm", layers=2), WeightDrop((0.1,)), r"p=\(0.1,\) has 1 entries and num_layers=2"),
        (Case("lstm"), WeightDrop(((0.1, 0.2),)), r"pair \(forward, reverse\) and the network one"),
        (
            Case("gru"),
            Zoneout(0.1, 0.1, shared=True),
            "shared=True with cell='gru', which has no c",
        ),
        (Case("rnn"), Zoneout(cell=0.1, hidden=0.0), "would change nothing, since there is no c"),
        (Case("rnn"), Semeniuta(0.1), "a simple RNN has no candidate apart from its memory"),
    ],
)
def test_an_option_that_the_network_has_no_place_for_is_refused(
    case: Case, method: Regularizer, text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        case.build(method)


@pytest.mark.parametrize(
    ("methods", "text"),
    [
        ((Zaremba(0.1), Variational(0.1)), "zaremba and variational both mask the input; .* p=0"),
        ((RNNDrop(0.1), Zoneout()), "rnndrop and zoneout both mask the memory; keep one of them"),
        ((WeightDrop(0.1), WeightDrop(0.2)), "both mask the weight"),
    ],
)
def test_two_methods_on_one_site_are_refused(methods: tuple[Regularizer, ...], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Case("lstm").build(*methods)


def test_variational_masks_on_h_go_with_zarembas_on_x() -> None:
    Case("lstm").build(Zaremba(0.1), Variational(0.0, hidden_p=0.3))
