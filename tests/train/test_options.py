"""What a method can be asked for beyond its rate."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.numpy_reference import RowMasks
from support.numpy_stack import recompute, row_masks, weights
from support.recurrent_cases import (
    CASES,
    FLAVOURS,
    Case,
    fits,
    initial_state,
    inputs,
    packed,
    unpacked,
)
from tidegate.train import (
    Recurrent,
    RNNDrop,
    Semeniuta,
    Variational,
    WeightDrop,
    Zaremba,
    Zoneout,
    counter_rng,
)
from tidegate.train.masks import expectation
from tidegate.train.rates import Rate, from_named, named
from tidegate.train.regularizers import Regularizer

# Rates per layer and direction


def layered(case: Case, base: float) -> Rate:
    """Another rate in every layer and direction."""
    return tuple(
        base + 0.1 * layer
        if case.directions == 1
        else (base + 0.1 * layer, base + 0.1 * layer + 0.05)
        for layer in range(case.layers)
    )


def layered_methods(case: Case) -> dict[str, Regularizer]:
    low, high = layered(case, 0.15), layered(case, 0.4)
    return {
        "zaremba": Zaremba(low, output_p=0.5),
        "zaremba-sequence": Zaremba(low, granularity="sequence", output_p=0.5),
        "rnndrop": RNNDrop(low),
        "variational": Variational(low, hidden_p=high, output_p=0.5),
        "variational-untied": Variational(low, hidden_p=high, tied=False, output_p=0.5),
        "weight_drop": WeightDrop(high),
        "weight_drop-per-example": WeightDrop(high, per_example=True),
        "semeniuta": Semeniuta(low),
        "zoneout": Zoneout(cell=high, hidden=low),
    }


LAYERED = [
    (case, name)
    for case in CASES
    for name, method in layered_methods(case).items()
    if fits(case, [method])
]


@pytest.mark.parametrize(("case", "method"), LAYERED, ids=str)
def test_rates_per_layer_and_direction_follow_the_equations(case: Case, method: str) -> None:
    model = case.build(layered_methods(case)[method])
    x, state = inputs(), initial_state(model)
    masks = model.sample_masks(3, 5)

    output, final = model(x, torch.tensor((5, 1, 3)), packed(state))

    expected, expected_final = recompute(model, x, lengths=(5, 1, 3), state=state, masks=masks)
    np.testing.assert_allclose(output.detach(), expected, atol=1e-12)
    for part, expected_part in zip(unpacked(final), expected_final, strict=True):
        np.testing.assert_allclose(part.detach(), expected_part, atol=1e-12)


@pytest.mark.parametrize(("case", "method"), LAYERED, ids=str)
def test_every_layer_and_direction_drops_at_its_own_rate(case: Case, method: str) -> None:
    if (case.layers, case.directions) != (2, 2):
        return
    regularizer = layered_methods(case)[method]
    model = case.build(regularizer, input_size=32, hidden_size=32)
    masks = model.sample_masks(64, 16)
    site, rate = {
        "zaremba": ("input", layered(case, 0.15)),
        "rnndrop": ("memory", layered(case, 0.15)),
        "variational": ("hidden", layered(case, 0.4)),
        "weight_drop": ("weight", layered(case, 0.4)),
        "semeniuta": ("candidate", layered(case, 0.15)),
        "zoneout": ("zone_hidden", layered(case, 0.15)),
    }[method.split("-")[0]]
    if method == "weight_drop-per-example":
        return
    assert isinstance(rate, tuple)
    for layer in range(2):
        for direction in range(2):
            mask = getattr(masks.layers[layer][direction], site)
            share = (mask == (1 if site == "zone_hidden" else 0)).double().mean().item()
            entry = rate[layer]
            assert isinstance(entry, tuple)
            p = entry[direction]
            assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / mask.numel())


@pytest.mark.parametrize("case", [case for case in CASES if case.layers == 2], ids=str)
def test_zoneout_is_evaluated_at_each_layers_own_rates(case: Case) -> None:
    zoneout = Zoneout(cell=layered(case, 0.4), hidden=layered(case, 0.15))
    model = case.build(zoneout).eval()
    x = inputs()

    output, _ = model(x)

    # Layer by layer, since each has factors of its own.
    layer_input = x.numpy()
    for layer in range(case.layers):
        outputs = []
        for direction in range(case.directions):
            rates = expectation(zoneout, case.cell, layer, direction)
            assert isinstance(rates.zone_hidden, float)
            factors = RowMasks(
                zone_cell=np.full((1, 1), rates.zone_cell or 0.0),
                zone_hidden=np.full((1, 1), rates.zone_hidden),
            )
            outputs.append(_run(model, layer, direction, layer_input, factors))
        layer_input = np.concatenate(outputs, axis=-1)
    np.testing.assert_allclose(output.detach(), layer_input, atol=1e-12)


def _run(
    model: Recurrent, layer: int, direction: int, x: np.ndarray, factors: RowMasks
) -> np.ndarray:
    from support import numpy_reference as reference

    flavour = model.cell if model.reset_after else f"{model.cell}_reset_before"
    zeros = (np.zeros(model.hidden_size),) * (2 if model.cell == "lstm" else 1)
    return np.stack(
        [
            reference.unroll(
                reference.STEPS[flavour],
                row,
                zeros,
                weights(model, layer, direction),
                factors,
                reverse=direction == 1,
            )[0]
            for row in x
        ]
    )


def test_rates_are_recorded_by_the_names_of_torchs_parameters() -> None:
    assert named("p", 0.5) == {"p": 0.5}
    assert Zaremba((0.1, (0.2, 0.3)), output_p=0.4).rates == {
        "p_l0": 0.1,
        "p_l1": 0.2,
        "p_l1_reverse": 0.3,
        "output_p": 0.4,
    }
    assert Zoneout(cell=0.1, hidden=(0.0, 0.2)).rates == {
        "cell": 0.1,
        "hidden_l0": 0.0,
        "hidden_l1": 0.2,
    }


def test_lists_are_rates_as_tuples_are() -> None:
    assert Zaremba([0.1, [0.2, 0.3]], output_p=0.1) == Zaremba((0.1, (0.2, 0.3)), output_p=0.1)  # type: ignore[arg-type]  # as TOML has them


def test_the_top_output_has_the_rate_of_the_last_layer_or_its_own() -> None:
    assert Zaremba(0.3).output_rate == 0.3
    assert Zaremba((0.1, 0.2)).output_rate == 0.2
    assert Variational((0.1, (0.2, 0.2))).output_rate == 0.2
    assert Variational(0.3, output_p=0.0).output_rate == 0.0
    assert Case("gru").build(Zaremba(0.3, output_p=0.0)).sample_masks(2, 2).output is None


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


# Zoneout with one mask for c and h


def test_shared_zoneout_keeps_both_states_of_a_unit_or_neither() -> None:
    model = Case("lstm").build(Zoneout(0.4, 0.4, shared=True), hidden_size=32)
    masks = model.sample_masks(8, 9).layers[0][0]
    assert isinstance(masks.zone_cell, torch.Tensor)
    assert isinstance(masks.zone_hidden, torch.Tensor)
    assert masks.zone_cell.equal(masks.zone_hidden)
    apart = Case("lstm").build(Zoneout(0.4, 0.4), hidden_size=32).sample_masks(8, 9).layers[0][0]
    assert isinstance(apart.zone_cell, torch.Tensor)
    assert isinstance(apart.zone_hidden, torch.Tensor)
    assert not apart.zone_cell.equal(apart.zone_hidden)


# Weight drop per example


def weight_masks(p: float, batch: int, steps: int = 1) -> torch.Tensor:
    """Masks on W_hh, [steps, B, G*H*H]: the whole matrix of each row."""
    model = Case("lstm").build(WeightDrop(p, per_example=True), hidden_size=8)
    found = []
    for model.step in range(steps):
        masks = model.sample_masks(batch, 1).layers[0][0]
        rows = [row_masks(masks, row, 1, lstm=True).weight for row in range(batch)]
        found.append(np.stack([np.ravel(row) for row in rows]))
    return torch.from_numpy(np.stack(found))


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_each_row_has_the_independent_masks_of_dropconnect(p: float) -> None:
    masks = weight_masks(p, batch=4, steps=60)

    near = [(masks - value).abs() < 1e-12 for value in (0.0, 1 / (1 - p))]
    assert (near[0] | near[1]).all()
    dropped = near[0].double()
    error = math.sqrt(p * (1 - p) / (dropped.numel() / 4))
    assert (dropped.mean(dim=(0, 2)) - p).abs().max() < 5 * error
    # Within a row, elements are uncorrelated: neighbours in a row of W_hh, and in a column.
    centred = (dropped - p).view(60, 4, 32, 8)
    for one, other in (
        (centred[..., 1:], centred[..., :-1]),
        (centred[..., 1:, :], centred[..., :-1, :]),
    ):
        covariance = (one * other).mean().item()
        assert abs(covariance) < 5 * p * (1 - p) / math.sqrt(one.numel() / 4)


def test_a_rows_mask_is_no_product_of_signs() -> None:
    """Pairs of elements would not show it: four at the corners of a rectangle do."""
    signs = 1 - 2 * (weight_masks(0.5, batch=4, steps=20).abs() < 1e-12).double()
    signs = signs.view(20, 4, 32, 8)

    corners = signs[..., 1:, 1:] * signs[..., 1:, :-1] * signs[..., :-1, 1:] * signs[..., :-1, :-1]

    # Rows of a batch share the corners' sign, so that only one of four counts.
    assert abs(corners.mean().item()) < 5 / math.sqrt(corners.numel() / 4)


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_rows_are_correlated_as_documented_and_independent_at_one_half(p: float) -> None:
    dropped = (weight_masks(p, batch=2, steps=200).abs() < 1e-12).double() - p

    correlation = (dropped[:, 0] * dropped[:, 1]).mean().item() / (p * (1 - p))

    expected = abs(0.5 - p) / max(p, 1 - p)
    assert abs(correlation - expected) < 5 * 2 / math.sqrt(dropped[:, 0].numel())


def test_without_per_example_all_rows_share_one_mask() -> None:
    masks = Case("lstm").build(WeightDrop(0.5)).sample_masks(4, 1).layers[0][0]

    assert masks.flip is None
    assert masks.weight is not None
    assert masks.weight.shape == (16, 4)


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda case: case.flavour)
def test_the_extreme_rates_of_weight_drop_are_the_same_per_example(flavour: Case, p: float) -> None:
    per_example, shared = (flavour.build(WeightDrop(p, per_example=one)) for one in (True, False))

    torch.testing.assert_close(per_example(inputs())[0], shared(inputs())[0], atol=1e-14, rtol=0)


# Masks that persist over the segments of a sequence

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


PROBABILITIES = st.floats(0, 1, allow_nan=False)


@given(
    p=PROBABILITIES | st.lists(PROBABILITIES | st.tuples(PROBABILITIES, PROBABILITIES), min_size=1),
    hidden_p=PROBABILITIES,
)
def test_the_numbers_of_rates_give_the_rates_back(p: Rate | list[Rate], hidden_p: float) -> None:
    rate = tuple(p) if isinstance(p, list) else p
    numbers = named("p", rate) | named("hidden_p", hidden_p)  # type: ignore[arg-type] # a list's entries are a rate's
    assert from_named(dict(reversed(numbers.items()))) == {"p": rate, "hidden_p": hidden_p}
