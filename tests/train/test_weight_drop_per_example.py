"""Weight drop with a mask for each row of a batch."""

import math

import numpy as np
import pytest
import torch

from support.numpy_stack import row_masks
from support.recurrent_cases import FLAVOURS, Case, inputs
from tidegate.train import WeightDrop


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
