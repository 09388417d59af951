"""A ragged batch is its rows, each run alone; segments with carried state are one pass."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.recurrent_cases import (
    CASES,
    CAUSAL,
    COMBINATIONS,
    METHODS,
    Case,
    initial_state,
    inputs,
    mask_slice,
    methods_for,
    packed,
    regularizers,
    unpacked,
)

LENGTHS = (5, 1, 3)
ALL = [*METHODS, *COMBINATIONS]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(("case", "method"), methods_for(CASES, ALL), ids=str)
def test_each_row_is_the_row_alone_and_padding_may_be_nan(
    case: Case, method: str, training: bool
) -> None:
    model = case.build(*regularizers(method)).train(training)
    x, state = inputs(), initial_state(model)
    masks = model.sample_masks(3, 5) if training else None
    for row, length in enumerate(LENGTHS):
        x[row, length:] = torch.nan

    output, final = model(x, torch.tensor(LENGTHS), packed(state), masks=masks)

    for row, length in enumerate(LENGTHS):
        rows = slice(row, row + 1)
        alone, alone_final = model(
            x[rows, :length],
            None,
            packed([part[:, rows] for part in state]),
            masks=mask_slice(masks, rows, slice(0, length)) if masks is not None else None,
        )
        torch.testing.assert_close(output[rows, :length], alone, atol=1e-12, rtol=0)
        assert (output[row, length:] == 0).all()
        for part, alone_part in zip(unpacked(final), unpacked(alone_final), strict=True):
            torch.testing.assert_close(part[:, rows], alone_part, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("case", "method"), methods_for(CASES, ALL), ids=str)
def test_the_final_state_of_a_short_row_has_a_gradient_and_padding_has_none(
    case: Case, method: str
) -> None:
    model = case.build(*regularizers(method))
    x, state = inputs(), initial_state(model)
    masks = model.sample_masks(3, 5)
    x[1, 1:] = torch.nan
    x[2, 3:] = torch.nan
    x.requires_grad_()

    _, final = model(x, torch.tensor(LENGTHS), packed(state), masks=masks)
    sum(part[:, 2].square().sum() for part in unpacked(final)).backward()  # type: ignore[union-attr]  # not empty

    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert (x.grad[2, 3:] == 0).all()
    assert (x.grad[:2] == 0).all()
    alone = x.detach()[2:, :3].clone().requires_grad_()
    _, alone_final = model(
        alone,
        None,
        packed([part[:, 2:] for part in state]),
        masks=mask_slice(masks, slice(2, 3), slice(0, 3)),
    )
    sum(part.square().sum() for part in unpacked(alone_final)).backward()  # type: ignore[union-attr]  # not empty
    assert alone.grad is not None
    assert alone.grad.abs().max() > 0
    torch.testing.assert_close(x.grad[2:, :3], alone.grad, atol=1e-12, rtol=0)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(("case", "method"), methods_for(CAUSAL, ALL), ids=str)
def test_segments_with_carried_state_are_one_pass(case: Case, method: str, training: bool) -> None:
    model = case.build(*regularizers(method)).train(training)
    x, state = inputs(time=9), initial_state(model)
    masks = model.sample_masks(3, 9) if training else None

    whole, final = model(x, None, packed(state), masks=masks)

    outputs, carried = [], packed(state)
    for start, stop in ((0, 4), (4, 5), (5, 9)):
        times = slice(start, stop)
        output, carried = model(
            x[:, times],
            None,
            carried,
            masks=mask_slice(masks, times=times) if masks is not None else None,
        )
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole, atol=1e-12, rtol=0)
    for part, expected in zip(unpacked(carried), unpacked(final), strict=True):
        torch.testing.assert_close(part, expected, atol=1e-12, rtol=0)


@given(data=st.data(), method=st.sampled_from(ALL), case=st.sampled_from(CASES))
@settings(max_examples=40, deadline=None)
def test_any_ragged_batch_is_its_rows(data: st.DataObject, method: str, case: Case) -> None:
    if not methods_for([case], [method]):
        return
    lengths = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=5))
    model = case.build(*regularizers(method))
    x = inputs(len(lengths), max(lengths))
    masks = model.sample_masks(*x.shape[:2])

    output, _ = model(x, torch.tensor(lengths), masks=masks)

    for row, length in enumerate(lengths):
        rows, times = slice(row, row + 1), slice(0, length)
        alone, _ = model(x[rows, times], masks=mask_slice(masks, rows, times))
        torch.testing.assert_close(output[rows, times], alone, atol=1e-12, rtol=0)


def test_the_reverse_direction_begins_at_each_rows_last_real_step() -> None:
    model = Case("gru", directions=2).build()
    x = inputs()

    output, state = model(x, torch.tensor(LENGTHS))

    for row, length in enumerate(LENGTHS):
        one_step, _ = model(x[row : row + 1, length - 1 : length])
        torch.testing.assert_close(
            output[row, length - 1, 4:], one_step[0, 0, 4:], atol=1e-12, rtol=0
        )
        # The reverse direction ends at the first step.
        torch.testing.assert_close(state[1, row], output[row, 0, 4:], atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("lengths", "text"),
    [
        (torch.tensor([5, 0, 3]), "lengths run from 0 to 5; each must be from 1 to the 5 steps"),
        (torch.tensor([6, 1, 3]), "lengths run from 1 to 6; each must be from 1 to the 5 steps"),
        (torch.tensor([5, 1]), r"lengths has the shape \[2\] .*; give 3 integers"),
        (torch.tensor([5.0, 1.0, 3.0]), "lengths has .* dtype torch.float32; give 3 integers"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(lengths: torch.Tensor, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Case("gru").build()(inputs(), lengths)
