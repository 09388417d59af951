"""The six methods against their equations, and their inference."""

import numpy as np
import pytest
import torch

from support.numpy_reference import RowMasks
from support.numpy_stack import recompute
from support.recurrent_cases import (
    CASES,
    COMBINATIONS,
    FLAVOURS,
    METHODS,
    Case,
    initial_state,
    inputs,
    methods_for,
    packed,
    regularizers,
    unpacked,
)
from tidegate.train import RNNDrop, WeightDrop, Zoneout
from tidegate.train.kernels import recurrent_layer as native
from tidegate.train.masks import LayerMasks, Masks

RAGGED = (5, 1, 3)
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6}
DEEP = tuple(case for case in CASES if case.layers == case.directions == 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
@pytest.mark.parametrize("lengths", [None, RAGGED], ids=["full", "ragged"])
@pytest.mark.parametrize(
    ("case", "method"), methods_for(CASES, METHODS) + methods_for(DEEP, COMBINATIONS), ids=str
)
def test_training_follows_the_equations(
    case: Case, method: str, lengths: tuple[int, ...] | None, dtype: torch.dtype
) -> None:
    model = case.build(*regularizers(method), dtype=dtype)
    x, state = inputs(dtype=dtype), initial_state(model)
    masks = model.sample_masks(3, 5)

    output, final = model(x, None if lengths is None else torch.tensor(lengths), packed(state))

    expected, expected_final = recompute(model, x, lengths=lengths, state=state, masks=masks)
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(output.detach(), expected, atol=tolerance, rtol=tolerance)
    for part, expected_part in zip(unpacked(final), expected_final, strict=True):
        np.testing.assert_allclose(part.detach(), expected_part, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    ("case", "method"), methods_for(CASES, METHODS) + methods_for(DEEP, COMBINATIONS), ids=str
)
def test_the_readable_path_follows_them_too(
    case: Case, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "supports", lambda *_: False)
    test_training_follows_the_equations(case, method, RAGGED, torch.float64)


@pytest.mark.parametrize("lengths", [None, RAGGED], ids=["full", "ragged"])
@pytest.mark.parametrize(
    ("case", "method"), methods_for(CASES, [name for name in METHODS if "zoneout" in name]), ids=str
)
def test_zoneout_is_evaluated_as_its_expectation(
    case: Case, method: str, lengths: tuple[int, ...] | None
) -> None:
    (zoneout,) = regularizers(method)
    assert isinstance(zoneout, Zoneout)
    model = case.build(zoneout).eval()
    x, state = inputs(), initial_state(model)
    rates = RowMasks(
        zone_cell=np.full((1, 1), zoneout.cell), zone_hidden=np.full((1, 1), zoneout.hidden)
    )

    output, final = model(x, None if lengths is None else torch.tensor(lengths), packed(state))

    expected, expected_final = recompute(model, x, lengths=lengths, state=state, masks=rates)
    np.testing.assert_allclose(output.detach(), expected, atol=1e-12)
    for part, expected_part in zip(unpacked(final), expected_final, strict=True):
        np.testing.assert_allclose(part.detach(), expected_part, atol=1e-12)


@pytest.mark.parametrize("reset_after", [True, False])
def test_zoneout_on_a_gru_is_a_gru_with_a_slower_update_gate(reset_after: bool) -> None:
    """The expectation moves the update gate from z to p + (1 - p) z."""
    p = 0.3
    model = Case("gru", reset_after).build(Zoneout(hidden=p), hidden_size=1).eval()
    weights = model.weights(0, 0)
    with torch.no_grad():
        weights.weight_hh.zero_()
        weights.bias_hh.zero_()
    x, h = inputs(batch=1, time=1), torch.tensor([[[0.7]]], dtype=torch.float64)

    output, _ = model(x, None, h)

    _, z, n = (weights.weight_ih @ x[0, 0] + weights.bias_ih).tolist()
    gate = p + (1 - p) / (1 + np.exp(-z))
    assert output.item() == pytest.approx((1 - gate) * np.tanh(n) + gate * 0.7, abs=1e-14)


def test_a_tied_mask_on_h_is_the_same_as_rnndrop_on_the_cell() -> None:
    """tanh(0) = 0 and m m = m: to drop c for a whole sequence is to drop h wherever it is read."""
    model = Case("lstm").build(RNNDrop(0.5))
    x, masks = inputs(time=12), model.sample_masks(3, 12)
    memory = masks.layers[0][0].memory
    assert memory is not None
    factor = (memory * 2.0)[None]
    on_h = Masks(((LayerMasks(hidden=factor),),), output=factor[None])

    output, _ = model(x, masks=masks)

    expected, _ = model(x, masks=on_h)
    torch.testing.assert_close(output, expected, atol=1e-15, rtol=0)


@pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda case: case.flavour)
def test_rnndrop_silences_a_unit_for_the_whole_sequence(flavour: Case) -> None:
    model = flavour.build(RNNDrop(0.5))
    memory = model.sample_masks(3, 12).layers[0][0].memory
    assert memory is not None

    output, _ = model(inputs(time=12))

    assert (output == 0).all(dim=1).equal(memory == 0)
    assert (output == 0).any(dim=1).equal(memory == 0)


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_rnndrop_carries_the_raw_memory_of_a_gru(cell: str) -> None:
    model = Case("gru" if cell == "gru" else "rnn").build(RNNDrop(0.5))

    _, state = model(inputs(batch=32))

    assert (state != 0).all()
    assert state.abs().max() < 1


@pytest.mark.parametrize("directions", [1, 2])
def test_weight_drop_leaves_no_gradient_on_a_dropped_weight(directions: int) -> None:
    model = Case("lstm", directions=directions).build(WeightDrop(0.5))
    masks = model.sample_masks(3, 5)

    model(inputs())[0].sum().backward()

    for direction in range(directions):
        mask = masks.layers[0][direction].weight
        gradient = model.weights(0, direction).weight_hh.grad
        assert mask is not None
        assert gradient is not None
        assert (gradient == 0).equal(mask == 0)


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
