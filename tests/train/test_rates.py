"""Rates per layer and direction."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from support import numpy_reference as reference
from support.numpy_reference import RowMasks
from support.numpy_stack import recompute, weights
from support.recurrent_cases import CASES, Case, fits, initial_state, inputs, packed, unpacked
from tidegate.train import (
    Recurrent,
    RNNDrop,
    Semeniuta,
    Variational,
    WeightDrop,
    Zaremba,
    Zoneout,
)
from tidegate.train.masks import expectation
from tidegate.train.rates import Rate, from_named, named
from tidegate.train.regularizers import Regularizer


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


@pytest.mark.parametrize(
    ("case", "method"),
    [
        (case, name)
        for case, name in LAYERED
        # The masks of weight drop per example are not there as such.
        if (case.layers, case.directions) == (2, 2) and name != "weight_drop-per-example"
    ],
    ids=str,
)
def test_every_layer_and_direction_drops_at_its_own_rate(case: Case, method: str) -> None:
    model = case.build(layered_methods(case)[method], input_size=32, hidden_size=32)
    masks = model.sample_masks(64, 16)
    site, base = {
        "zaremba": ("input", 0.15),
        "rnndrop": ("memory", 0.15),
        "variational": ("hidden", 0.4),
        "weight_drop": ("weight", 0.4),
        "semeniuta": ("candidate", 0.15),
        "zoneout": ("zone_hidden", 0.15),
    }[method.split("-")[0]]
    for layer in range(2):
        for direction in range(2):
            mask = getattr(masks.layers[layer][direction], site)
            share = (mask == (1 if site == "zone_hidden" else 0)).double().mean().item()
            p = base + 0.1 * layer + 0.05 * direction
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


PROBABILITIES = st.floats(0, 1, allow_nan=False)


@given(
    p=PROBABILITIES | st.lists(PROBABILITIES | st.tuples(PROBABILITIES, PROBABILITIES), min_size=1),
    hidden_p=PROBABILITIES,
)
def test_the_numbers_of_rates_give_the_rates_back(p: Rate | list[Rate], hidden_p: float) -> None:
    rate = tuple(p) if isinstance(p, list) else p
    numbers = named("p", rate) | named("hidden_p", hidden_p)  # type: ignore[arg-type] # a list's entries are a rate's
    assert from_named(dict(reversed(numbers.items()))) == {"p": rate, "hidden_p": hidden_p}
