"""Masks that persist over the segments of a sequence."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.recurrent_cases import FLAVOURS, Case, fits, inputs, unpacked
from tidegate.train import (
    RNNDrop,
    Semeniuta,
    Variational,
    WeightDrop,
    Zaremba,
    Zoneout,
    counter_rng,
)
from tidegate.train.regularizers import Regularizer

PERSISTENT: dict[str, Regularizer] = {
    "zaremba-sequence": Zaremba(0.4, granularity="sequence"),
    "rnndrop": RNNDrop(0.4),
    "variational": Variational(0.4, hidden_p=0.3),
    "variational-untied": Variational(0.4, tied=False),
    "semeniuta-sequence": Semeniuta(0.4, granularity="sequence"),
}
PERSISTENT_CASES = [
    (flavour._replace(layers=2), name)
    for flavour in FLAVOURS
    for name, method in PERSISTENT.items()
    if fits(flavour, [method])
]


@pytest.mark.parametrize(("case", "method"), PERSISTENT_CASES, ids=str)
def test_segments_of_numbered_sequences_are_one_pass(case: Case, method: str) -> None:
    model = case.build(PERSISTENT[method])
    x, numbers = inputs(time=9), torch.tensor([7, 3, 12])

    whole, final = model(x, sequences=numbers)

    carried, outputs = None, []
    for start, stop in ((0, 4), (4, 5), (5, 9)):
        output, carried = model(x[:, start:stop], None, carried, sequences=numbers)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole, atol=1e-12, rtol=0)
    assert carried is not None
    for part, expected in zip(unpacked(carried), unpacked(final), strict=True):
        torch.testing.assert_close(part, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("case", "method"), PERSISTENT_CASES, ids=str)
def test_a_new_number_is_a_new_mask_for_its_row_alone(case: Case, method: str) -> None:
    model = case.build(PERSISTENT[method], hidden_size=16)
    x = inputs()

    before, _ = model(x, sequences=torch.tensor([7, 3, 12]))
    after, _ = model(x, sequences=torch.tensor([7, 4, 12]))

    same = [before[row].equal(after[row]) for row in range(3)]
    assert same == [True, False, True]


@given(numbers=st.lists(st.integers(0, 2**62), min_size=1, max_size=6), data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_rows_masks_depend_on_its_number_alone(numbers: list[int], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(numbers))))
    model = Case("lstm").build(Variational(0.4, tied=False), RNNDrop(0.4))
    x = inputs(len(numbers), 4)

    output, _ = model(x, sequences=torch.tensor(numbers))

    moved, _ = model(x[order], sequences=torch.tensor([numbers[row] for row in order]))
    torch.testing.assert_close(moved, output[order], atol=1e-12, rtol=0)


def test_masks_per_step_and_on_weights_are_new_in_every_segment() -> None:
    numbers = torch.tensor([7, 3, 12])
    for method in (Zaremba(0.4), Semeniuta(0.4), Zoneout(), WeightDrop(0.4)):
        model = Case("lstm").build(method, hidden_size=16)
        first, second = (model(inputs(), sequences=numbers)[0] for _ in range(2))
        assert not first.equal(second)


def test_two_rows_of_one_sequence_have_one_mask() -> None:
    model = Case("lstm").build(Variational(0.4))
    x = inputs(1).expand(3, -1, -1)

    output, _ = model(x, sequences=torch.tensor([5, 5, 6]))

    assert output[0].equal(output[1])
    assert not output[0].equal(output[2])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"sequences": torch.tensor([1, 2])}, r"sequences has the shape \[2\] .* give 3 integers"),
        ({"sequences": torch.tensor([1.0, 2.0, 3.0])}, "dtype torch.float32; give 3 integers"),
        (
            {"sequences": torch.tensor([1, 2, 3]), "sample_offset": 3},
            "sample_offset=3 with sequences: .* give one of the two",
        ),
    ],
)
def test_numbers_of_sequences_that_do_not_fit_are_refused(
    arguments: dict[str, object], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        Case("gru").build(Zaremba(0.1))(inputs(), **arguments)


def test_a_draw_by_numbers_is_that_of_the_same_places() -> None:
    by_place = counter_rng.drop(3, 0.5, times=2, samples=4, units=8, sample_offset=2)
    by_number = counter_rng.drop(3, 0.5, times=2, samples=torch.arange(2, 6), units=8)

    assert by_number.equal(by_place)
