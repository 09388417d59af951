"""What a mask does to a memory: retention, bounds, and expectations where they are exact.

Dimensions: T time, B batch, H hidden.
"""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from support.recurrent_cases import (
    FLAVOURS,
    METHODS,
    Case,
    fits,
    inputs,
    methods_for,
    regularizers,
    unpacked,
)
from tidegate.train import Recurrent, RNNDrop, Semeniuta, Variational, WeightDrop, Zaremba, Zoneout
from tidegate.train.cells import State, StepMasks, Weights, lstm_step
from tidegate.train.regularizers import Regularizer

P = 0.5
STEPS = 200
# A gate's bias at which sigmoid is exactly 1 (and, negated, smaller than any rounding).
OPEN = 800.0


def closed_lstm(*methods: Regularizer, hidden_size: int = 16) -> Recurrent:
    """f = 1, i = 0: c stays what it is, for ever, and h = o tanh(c) with o = 1."""
    model = Case("lstm").build(*methods, hidden_size=hidden_size)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        i, f, _, o = model.weights(0, 0).bias_ih.chunk(4)
        i.fill_(-OPEN)
        f.fill_(OPEN)
        o.fill_(OPEN)
    return model


def closed_gru(*methods: Regularizer, reset_after: bool) -> Recurrent:
    """z = 1: h stays what it is, for ever."""
    model = Case("gru", reset_after).build(*methods, hidden_size=16)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.weights(0, 0).bias_ih.chunk(3)[1].fill_(OPEN)
    return model


RETAINING = [name for name in METHODS if name != "rnndrop"]


@pytest.mark.parametrize("method", RETAINING)
def test_a_closed_lstm_keeps_its_memory_exactly(method: str) -> None:
    model = closed_lstm(*regularizers(method))
    c = torch.ones(1, 4, 16, dtype=torch.float64)

    _, (h_new, c_new) = model(inputs(4, STEPS), None, (torch.tanh(c), c))

    assert c_new.equal(c)
    if "zaremba" not in method and "variational" not in method:
        torch.testing.assert_close(h_new, torch.tanh(c), atol=1e-15, rtol=0)


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("method", [m for m in RETAINING if fits(Case("gru"), regularizers(m))])
def test_a_closed_gru_keeps_its_memory_exactly(method: str, reset_after: bool) -> None:
    model = closed_gru(*regularizers(method), reset_after=reset_after)
    h = torch.ones(1, 4, 16, dtype=torch.float64)

    _, h_new = model(inputs(4, STEPS), None, h)

    assert h_new.equal(h)


def test_rnndrop_keeps_the_memory_of_kept_units_exactly_and_unscaled() -> None:
    model = closed_lstm(RNNDrop(P))
    memory = model.sample_masks(4, STEPS).layers[0][0].memory
    assert memory is not None
    c = torch.ones(1, 4, 16, dtype=torch.float64)

    output, (_, c_new) = model(inputs(4, STEPS), None, (c * 0, c))

    assert c_new[0].equal(memory)
    # What is exposed is scaled, so that its expectation is that of the plain network.
    expected = memory * math.tanh(1.0) / (1 - P)
    torch.testing.assert_close(output[:, -1], expected, atol=1e-15, rtol=0)


@pytest.mark.parametrize("reset_after", [True, False])
def test_rnndrop_on_a_gru_keeps_every_memory_and_hides_dropped_ones(reset_after: bool) -> None:
    model = closed_gru(RNNDrop(P), reset_after=reset_after)
    memory = model.sample_masks(4, STEPS).layers[0][0].memory
    assert memory is not None
    h = torch.full((1, 4, 16), 0.7, dtype=torch.float64)

    output, h_new = model(inputs(4, STEPS), None, h)

    assert h_new.equal(h)
    torch.testing.assert_close(output[:, -1], memory * 0.7 / (1 - P), atol=1e-15, rtol=0)


def test_a_mask_per_step_on_the_memory_leaves_k_to_the_t() -> None:
    """Why it is refused: what is zeroed once is gone, at any scale."""
    H, B, T = 512, 64, 5
    weights = closed_lstm(hidden_size=H).weights(0, 0)
    state = State(torch.zeros(B, H, dtype=torch.float64), torch.ones(B, H, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)

    for _ in range(T):
        memory = (torch.rand(B, H, generator=generator, dtype=torch.float64) > P).double()
        state = _closed_step(state, weights, StepMasks(memory=memory))

    assert state.c is not None
    left, expected = (state.c != 0).double().mean().item(), (1 - P) ** T
    assert abs(left - expected) < 5 * math.sqrt(expected * (1 - expected) / (B * H))


@torch.no_grad()
def _closed_step(state: State, weights: Weights, masks: StepMasks) -> State:
    gates = weights.bias_ih.expand(len(state.h), -1)
    return lstm_step(gates, state, weights, masks).state


@pytest.mark.parametrize("scale", [1.0, 20.0])
@pytest.mark.parametrize(("case", "method"), methods_for(FLAVOURS, METHODS), ids=str)
def test_nothing_explodes_over_a_thousand_steps(case: Case, method: str, scale: float) -> None:
    """|h| <= 1 / k in training, whatever the weights: a carried state is never rescaled."""
    halves: dict[str, Regularizer] = {
        "zaremba": Zaremba(P),
        "zaremba-sequence": Zaremba(P, granularity="sequence"),
        "rnndrop": RNNDrop(P),
        "variational": Variational(P),
        "variational-untied": Variational(P, tied=False),
        "weight_drop": WeightDrop(P),
        "weight_drop-per-example": WeightDrop(P, per_example=True),
        "semeniuta": Semeniuta(P),
        "semeniuta-sequence": Semeniuta(P, granularity="sequence"),
        "zoneout": Zoneout(P, P),
        "zoneout-shared": Zoneout(P, P, shared=True),
        "zoneout-cell": Zoneout(P, 0.0),
        "zoneout-hidden": Zoneout(0.0, P),
    }
    model = case.build(halves[method])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
        output, state = model(inputs(2, 1000))

    assert output.abs().max() <= 1 / (1 - P)
    assert unpacked(state)[0].abs().max() <= 1 / (1 - P)


# Expectations. Without recurrent weights the gates depend on the input alone, so that the memory
# is a linear function of independent masks and its mean is exact; elsewhere no equality holds.


def without_recurrence(case: Case, *methods: Regularizer) -> Recurrent:
    model = case.build(*methods, hidden_size=8)
    with torch.no_grad():
        model.weights(0, 0).weight_hh.zero_()
    return model


def rows(count: int) -> Tensor:
    """The same sequence for every row; their masks differ."""
    return inputs(1, 12).expand(count, -1, -1)


def assert_mean(samples: Tensor, expected: Tensor) -> None:
    """Within four standard errors, unit by unit.

    Args:
        samples: [B, H].
        expected: [H].
    """
    error = samples.std(dim=0) / math.sqrt(len(samples))
    distance = (samples.mean(dim=0) - expected).abs()
    assert (distance <= 4 * error + 1e-12).all(), (distance / error).max()


@pytest.mark.parametrize(
    "method",
    [
        Semeniuta(0.4),
        Semeniuta(0.4, granularity="sequence"),
        Zoneout(cell=0.4, hidden=0.0),
        Zoneout(cell=0.4, hidden=0.3),
    ],
    ids=str,
)
@torch.no_grad()
def test_the_mean_cell_of_an_lstm_is_that_of_its_evaluation(method: Regularizer) -> None:
    model = without_recurrence(Case("lstm"), method)

    _, (_, c) = model(rows(4000))

    assert_mean(c[0], model.eval()(rows(1))[1][1][0, 0])


@pytest.mark.parametrize(
    ("case", "method"),
    [
        (Case("lstm"), RNNDrop(0.4)),
        (Case("gru"), RNNDrop(0.4)),
        (Case("gru", reset_after=False), RNNDrop(0.4)),
        (Case("rnn"), RNNDrop(0.4)),
        (Case("lstm"), Zoneout(cell=0.0, hidden=0.4)),
        (Case("gru"), Zoneout(hidden=0.4)),
        (Case("gru", reset_after=False), Zoneout(hidden=0.4)),
        (Case("rnn"), Zoneout(hidden=0.4)),
        (Case("gru"), Semeniuta(0.4)),
        (Case("gru", reset_after=False), Semeniuta(0.4, granularity="sequence")),
    ],
    ids=str,
)
@torch.no_grad()
def test_the_mean_output_is_that_of_the_evaluation(case: Case, method: Regularizer) -> None:
    model = without_recurrence(case, method)

    output, _ = model(rows(4000))

    for t in (0, 5, 11):
        assert_mean(output[:, t], model.eval()(rows(1))[0][0, t])


@torch.no_grad()
def test_the_mean_of_what_enters_the_gates_is_unchanged() -> None:
    """Zaremba, variational and weight drop: an affine function of the mask, before any sigmoid."""
    model = Case("rnn").build(Variational(0.4), WeightDrop(0.4), hidden_size=8)
    weights = model.weights(0, 0)
    x, h = inputs(1, 1)[0, 0], torch.linspace(-1, 1, 8, dtype=torch.float64)
    samples = []
    for model.step in range(2000):
        masks = model.sample_masks(1, 1).layers[0][0]
        assert masks.input is not None
        assert masks.hidden is not None
        assert masks.weight is not None
        from_x = weights.weight_ih @ (x * masks.input[0, 0, 0])
        samples.append(from_x + (weights.weight_hh * masks.weight) @ (h * masks.hidden[0, 0]))

    assert_mean(torch.stack(samples), weights.weight_ih @ x + weights.weight_hh @ h)


def test_the_plain_operator_is_wrong_for_zoneout() -> None:
    """So its inference cannot be the identity."""
    model = Case("lstm").build(Zoneout(cell=0.5, hidden=0.05)).eval()
    plain = Case("lstm").build_torch()
    plain.load_state_dict(model.state_dict())
    x = inputs(time=50)

    difference = (model(x)[0] - plain(x)[0]).abs().max().item()

    assert difference > 0.05
    assert np.isfinite(difference)
