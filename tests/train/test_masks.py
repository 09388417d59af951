"""The masks themselves: their values, their independence, and what they depend on."""

import copy
import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from support.recurrent_cases import (
    CASES,
    COMBINATIONS,
    FLAVOURS,
    METHODS,
    Case,
    inputs,
    mask_slice,
    methods_for,
    regularizers,
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
from tidegate.train.masks import LayerMasks, Masks

SCALED = ("input", "hidden", "weight", "candidate", "output")
BINARY = ("memory", "zone_cell", "zone_hidden")
TIMED = ("input", "candidate", "output", "zone_cell", "zone_hidden")
P = 0.3


def named(masks: Masks) -> Iterator[tuple[str, int, int, Tensor]]:
    """(site, layer, direction, mask) of all masks there are."""
    for layer, directions in enumerate(masks.layers):
        for direction, one in enumerate(directions):
            for site in LayerMasks._fields:
                mask = getattr(one, site)
                if site == "weight" and one.flip is not None:
                    mask = whole_weight_masks(one)
                if isinstance(mask, Tensor):
                    yield site, layer, direction, mask
    if masks.output is not None:
        yield "output", len(masks.layers), 0, masks.output


def whole_weight_masks(masks: LayerMasks) -> Tensor:
    """The mask on W_hh of each row, [B, G*H, H]."""
    assert masks.weight is not None
    assert masks.flip is not None
    signs = masks.flip.rows[:, :, None] * masks.flip.columns[:, None]
    return masks.weight + masks.flip.weight * signs


def everything(hidden_size: int = 32, layers: int = 2, directions: int = 2) -> list[Recurrent]:
    """Networks whose regularizers together fill every site."""
    case = Case("lstm", layers=layers, directions=directions)
    return [
        case.build(*methods, input_size=32, hidden_size=hidden_size)
        for methods in (
            (Variational(P, tied=False), RNNDrop(P), WeightDrop(P), Semeniuta(P)),
            (Zaremba(P), Zoneout(cell=P, hidden=P), Semeniuta(P, granularity="sequence")),
            (Zaremba(P, granularity="sequence"),),
        )
    ]


@pytest.mark.parametrize(
    ("case", "method"), methods_for(CASES, METHODS) + methods_for(CASES, COMBINATIONS), ids=str
)
def test_a_mask_holds_nothing_but_its_two_values(case: Case, method: str) -> None:
    model = case.build(*regularizers(method), hidden_size=16)
    # A GRU's or RNN's rnndrop and variational masks meet in `hidden`, as a product.
    together = case.cell != "lstm" and {"variational", "rnndrop"} <= set(method.split("+"))

    found = list(named(model.sample_masks(4, 6)))

    assert found
    for site, _, _, mask in found:
        values = set(mask.flatten().tolist())
        if site in BINARY:
            assert values == {0.0, 1.0}
        elif not (together and site == "hidden"):
            (kept,) = values - {0.0}
            assert values == {0.0, kept}
            rates = [rate for one in model.regularizers for rate in one.rates.values()]
            assert any(kept == pytest.approx(1 / (1 - rate), rel=1e-15) for rate in rates)


def test_every_site_drops_at_its_rate() -> None:
    """Within five standard errors, each layer and direction by itself."""
    seen = set()
    for model in everything():
        for site, _, _, mask in named(model.sample_masks(64, 40)):
            share = (mask == 0).double().mean().item()
            expected = 1 - P if site.startswith("zone") else P
            assert abs(share - expected) < 5 * math.sqrt(P * (1 - P) / mask.numel())
            seen.add(site)
    assert seen == {*SCALED, *BINARY}


def test_masks_of_different_places_are_independent() -> None:
    """Layers, directions, sites, gates, rows, steps: no pair of masks agrees more than chance."""
    for model in everything():
        flat: dict[str, Tensor] = {}
        for site, layer, direction, mask in named(model.sample_masks(64, 40)):
            dropped = (mask == 0).double()
            if site.startswith("zone"):
                dropped = 1 - dropped
            flat[f"{site} {layer} {direction}"] = dropped
        bits = {name: mask.flatten()[:2048] for name, mask in flat.items()}
        for name, one in bits.items():
            for other_name, other in bits.items():
                if name < other_name:
                    assert _agree_by_chance(one, other), (name, other_name)


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["time", "sample", "unit"])
def test_neighbours_in_a_mask_are_independent(axis: int) -> None:
    dropped = counter_rng.drop(7, P, times=64, samples=64, units=64).double()

    for distance in (1, 2, 3, 8, 32):
        first = dropped.narrow(axis, 0, 64 - distance)
        second = dropped.narrow(axis, distance, 64 - distance)
        assert _agree_by_chance(first.flatten(), second.flatten()), distance


@pytest.mark.parametrize("field", ["seed", "step"])
def test_neighbouring_seeds_and_steps_give_independent_masks(field: str) -> None:
    model = Case("lstm").build(Zaremba(P), input_size=32)
    first = model.sample_masks(64, 40).output
    setattr(model, field, getattr(model, field) + 1)
    second = model.sample_masks(64, 40).output

    assert first is not None
    assert second is not None
    assert _agree_by_chance((first == 0).double().flatten(), (second == 0).double().flatten())


def _agree_by_chance(one: Tensor, other: Tensor) -> bool:
    """Whether two bit vectors of rate P are uncorrelated, within five standard errors."""
    size = min(len(one), len(other))
    covariance = ((one[:size] - P) * (other[:size] - P)).mean().item()
    return abs(covariance) < 5 * P * (1 - P) / math.sqrt(size)


@pytest.mark.parametrize("method", METHODS)
def test_a_mask_per_sequence_has_one_step_and_a_mask_per_step_has_all(method: str) -> None:
    model = Case("lstm").build(*regularizers(method))
    per_step = method in ("zaremba", "semeniuta") or method.startswith("zoneout")

    for site, _, _, mask in named(model.sample_masks(3, 6)):
        assert mask.shape[0] == (6 if per_step else 1) or site not in TIMED


@pytest.mark.parametrize("method", ["zaremba-sequence", "rnndrop", "variational", "weight_drop"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_mask_per_sequence_acts_the_same_at_every_step(cell: str, method: str) -> None:
    """With a constant input and no recurrent weights a sequence repeats its fixed point."""
    model = Case("lstm" if cell == "lstm" else "gru").build(*regularizers(method))
    with torch.no_grad():
        model.weights(0, 0).weight_hh.zero_()
    x = inputs(time=1).expand(-1, 400, -1)

    output, _ = model(x)

    torch.testing.assert_close(output[:, -1], output[:, -2], atol=1e-9, rtol=0)


@pytest.mark.parametrize(("case", "method"), methods_for(FLAVOURS, METHODS), ids=str)
def test_a_batch_and_its_halves_draw_the_same(case: Case, method: str) -> None:
    model = case._replace(layers=2, directions=2).build(*regularizers(method))

    whole = model.sample_masks(6, 5)

    for start in (0, 3):
        half = model.sample_masks(3, 5, sample_offset=start)
        assert _equal(half, mask_slice(whole, slice(start, start + 3)))


@given(
    batch=st.integers(1, 6),
    time=st.integers(1, 8),
    more=st.integers(0, 5),
    seed=st.integers(0, 2**62 - 1),
    step=st.integers(0, 2**40),
)
@settings(max_examples=40, deadline=None)
def test_padding_and_batch_mates_never_change_a_mask(
    batch: int, time: int, more: int, seed: int, step: int
) -> None:
    model = Case("lstm").build(Zaremba(0.4), Semeniuta(0.3), Zoneout(0.5, 0.2))
    model.seed, model.step = seed, step

    small = model.sample_masks(batch, time)

    large = model.sample_masks(batch + more, time + more)
    assert _equal(small, mask_slice(large, slice(0, batch), slice(0, time)))


def _equal(one: Masks, other: Masks) -> bool:
    pairs = list(zip(named(one), named(other), strict=True))
    return all(a[:3] == b[:3] and a[3].equal(b[3]) for a, b in pairs)


@pytest.mark.parametrize("method", METHODS)
def test_every_forward_pass_has_new_masks(method: str) -> None:
    model = Case("lstm", layers=2).build(*regularizers(method), hidden_size=16)

    first, second = model(inputs())[0], model(inputs())[0]

    assert model.step == 2
    assert not first.equal(second)


def test_a_resumed_run_draws_what_an_unbroken_one_does() -> None:
    model = Case("lstm").build(Zaremba(0.5), Zoneout())
    for _ in range(3):
        model(inputs())
    resumed = copy.deepcopy(model)
    torch.manual_seed(12345)
    fresh = Case("lstm").build(Zaremba(0.5), Zoneout())
    fresh.load_state_dict(model.state_dict())
    fresh.seed, fresh.step = model.seed, model.step

    expected = model(inputs())[0]

    assert resumed(inputs())[0].equal(expected)
    assert fresh(inputs())[0].equal(expected)


def test_the_seed_of_torch_fixes_the_masks() -> None:
    outputs = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        model = Recurrent("gru", 3, 4, regularizers=[Zaremba(0.5)])
        outputs.append(model.sample_masks(3, 5).output)

    first, again, other = outputs
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.equal(again)
    assert not first.equal(other)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("method", METHODS)
def test_no_forward_pass_draws_from_torchs_generator(method: str, training: bool) -> None:
    model = Case("lstm", layers=2).build(*regularizers(method)).train(training)
    before = torch.get_rng_state()

    first, _ = model(inputs())
    second, _ = model(inputs())

    assert torch.get_rng_state().equal(before)
    assert model.step == (2 if training else 0)
    assert first.equal(second) is not training


def test_a_key_depends_on_every_part_and_on_their_order() -> None:
    keys = [counter_rng.derive_key(*parts) for parts in ((1, 2), (2, 1), (1, 2, 0), (1,), (0, 1))]

    assert len(set(keys)) == len(keys)


@given(key=st.integers(0, 2**64 - 1), p=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_a_higher_rate_drops_what_a_lower_one_does(key: int, p: float) -> None:
    low = counter_rng.drop(key, p / 2, times=2, samples=3, units=16)
    high = counter_rng.drop(key, p, times=2, samples=3, units=16)

    assert (high | ~low).all()


def test_the_extreme_rates_are_exact() -> None:
    assert not counter_rng.drop(5, 0.0, times=64, samples=64, units=64).any()
    assert counter_rng.drop(5, 1.0, times=64, samples=64, units=64).all()
