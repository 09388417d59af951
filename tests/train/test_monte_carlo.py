"""Monte Carlo inference: the mean and spread of sampled networks."""

import copy
from typing import Any

import numpy as np
import pytest
import torch

from support.models import crf_labeller, joint_labeller, small_forecaster, small_labeller
from support.numpy_stack import recompute
from support.recurrent_cases import CASES, Case, inputs
from tidegate.train import (
    Recurrent,
    RNNDrop,
    Semeniuta,
    Variational,
    WeightDrop,
    Zaremba,
    Zoneout,
    monte_carlo,
)
from tidegate.train.inference import sampled_networks
from tidegate.train.masks import Masks
from tidegate.train.regularizers import Regularizer

SAMPLING: dict[str, tuple[Regularizer, ...]] = {
    "variational": (Variational(0.4, hidden_p=0.3),),
    "variational-untied": (Variational(0.4, tied=False),),
    "rnndrop": (RNNDrop(0.4),),
    "weight_drop": (WeightDrop(0.4),),
    "weight_drop-per-example": (WeightDrop(0.4, per_example=True),),
    "zaremba-sequence": (Zaremba(0.4, granularity="sequence"),),
    "variational+zoneout": (Variational(0.4), Zoneout(cell=0.3, hidden=0.2)),
    "variational+semeniuta": (Variational(0.4), Semeniuta(0.4)),
}


def masks_in_force(model: Recurrent, monkeypatch: pytest.MonkeyPatch) -> list[Masks]:
    """The masks of every forward pass from now on."""
    seen: list[Masks] = []
    run = model._run

    def remember(x: Any, lengths: Any, states: Any, masks: Masks) -> Any:
        seen.append(masks)
        return run(x, lengths, states, masks)

    monkeypatch.setattr(model, "_run", remember)
    return seen


@pytest.mark.parametrize("method", SAMPLING)
@pytest.mark.parametrize("case", [case for case in CASES if case.layers == 2], ids=str)
def test_mean_and_spread_are_those_of_numpy_over_the_sampled_networks(
    case: Case, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case.cell == "rnn" and "semeniuta" in method:
        return
    model, x = case.build(*SAMPLING[method]), inputs()
    seen = masks_in_force(model, monkeypatch)

    result = monte_carlo(model, x, mc_samples=5)

    assert len(seen) == 5
    samples = np.stack([recompute(model, x, masks=_arrays(masks, model))[0] for masks in seen])
    np.testing.assert_allclose(result.mean, samples.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(result.std, samples.std(axis=0, ddof=1), atol=1e-12)
    assert (samples.std(axis=0) > 0).any()


def _arrays(masks: Masks, model: Recurrent) -> Masks:
    """Zoneout's rates as masks of the whole batch, which the reference takes."""

    def full(rate: Any) -> Any:
        shape = (1, 3, model.hidden_size)
        return torch.full(shape, rate, dtype=torch.float64) if isinstance(rate, float) else rate

    return masks._replace(
        layers=tuple(
            tuple(
                one._replace(zone_cell=full(one.zone_cell), zone_hidden=full(one.zone_hidden))
                for one in directions
            )
            for directions in masks.layers
        )
    )


def test_each_sample_has_masks_of_its_own_and_none_of_them_is_trained_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Case("lstm").build(Variational(0.5), hidden_size=32)
    trained = [_hidden(model.sample_masks(3, 5)) for model.step in range(4)]
    model.step = 0
    seen = masks_in_force(model, monkeypatch)

    monte_carlo(model, inputs(), mc_samples=4)

    masks = [*trained, *(_hidden(one) for one in seen)]
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == 8


def _hidden(masks: Masks) -> torch.Tensor:
    mask = masks.layers[0][0].hidden
    assert mask is not None
    return mask


def test_methods_per_step_are_as_in_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Case("lstm").build(Variational(0.4), Semeniuta(0.4), WeightDrop(0.2))
    seen = masks_in_force(model, monkeypatch)

    monte_carlo(model, inputs(), mc_samples=2)

    (layer,) = seen[0].layers[0]
    assert layer.candidate is None
    assert layer.hidden is not None
    assert layer.weight is not None


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_the_model_is_left_as_it_was(training: bool) -> None:
    model = Case("gru").build(Variational(0.4)).train(training)
    other, before = copy.deepcopy(model), torch.get_rng_state()

    first = monte_carlo(model, inputs(), mc_samples=3)
    again = monte_carlo(model, inputs(), mc_samples=3)

    assert first.mean.equal(again.mean)
    assert first.std.equal(again.std)
    assert torch.get_rng_state().equal(before)
    assert model.training is training
    assert model(inputs())[0].equal(other(inputs())[0])


def test_a_failing_prediction_leaves_the_model_as_it_was() -> None:
    model = Case("gru").build(Variational(0.4))

    with pytest.raises(ValueError, match="x has the shape"):
        monte_carlo(model, torch.zeros(1, 2, 99), mc_samples=3)

    assert model.training
    assert model.sample is None


def test_segments_within_one_sample_are_one_pass() -> None:
    model, x = Case("lstm", layers=2).build(Variational(0.4), RNNDrop(0.3)), inputs(time=9)

    for _ in sampled_networks(model, 3):
        whole, _ = model(x)
        first, state = model(x[:, :4])
        second, _ = model(x[:, 4:], None, state)
        torch.testing.assert_close(torch.cat([first, second], dim=1), whole, atol=1e-12, rtol=0)


def test_a_forecaster_gives_the_mean_and_spread_of_its_quantiles() -> None:
    model = small_forecaster(regularizers=[Variational(0.3), Zoneout(hidden=0.1)])
    x = model.example(2, 6, torch.Generator().manual_seed(0))

    result = monte_carlo(model, x, torch.tensor([6, 4]), mc_samples=8)

    assert result.mean.shape == result.std.shape == model(x)[0].shape
    assert (result.std[0] > 0).all()
    assert (result.mean.diff(dim=-1) >= 0).all()


def test_a_labeller_gives_the_mean_and_spread_of_its_probabilities() -> None:
    model = small_labeller()
    model.recurrent.regularizers = (Variational(0.3),)
    tokens = torch.tensor([[2, 3, 4], [4, 5, 2]])

    result = monte_carlo(model, tokens, mc_samples=8)

    torch.testing.assert_close(result.mean.sum(dim=-1), torch.ones(2, 3))
    assert (result.std > 0).all()


@pytest.mark.parametrize("words", [True, False])
def test_a_crf_gives_the_mean_of_its_marginals_and_a_sentence_that_of_its_label(
    words: bool,
) -> None:
    model = crf_labeller() if words else joint_labeller(words=False)
    model.recurrent.regularizers = (Variational(0.3),)
    tokens, lengths = torch.tensor([[2, 3, 4], [4, 5, 0]]), torch.tensor([3, 2])

    result = monte_carlo(model, tokens, lengths, mc_samples=4)

    shape = (2, 3) if words else (2,)
    torch.testing.assert_close(result.mean.sum(dim=-1), torch.ones(shape))
    assert (result.std[0] > 0).all()


def test_another_model_says_what_it_predicts() -> None:
    class Sum(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = Case("gru").build(Variational(0.4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.network(x)[0]
            return output.sum(dim=-1)

    with pytest.raises(TypeError, match="model is a Sum; give prediction="):
        monte_carlo(Sum(), inputs(), mc_samples=2)
    assert monte_carlo(Sum(), inputs(), mc_samples=2, prediction=lambda y: y).mean.shape == (3, 5)


@pytest.mark.parametrize("samples", [-1, 0, 1])
def test_too_few_samples_are_refused(samples: int) -> None:
    with pytest.raises(ValueError, match=f"mc_samples={samples} has no spread"):
        monte_carlo(Case("gru").build(Variational(0.4)), inputs(), mc_samples=samples)


@pytest.mark.parametrize(
    "methods", [(), (Zaremba(0.4),), (Zoneout(), Semeniuta(0.4)), (Variational(0.0),)]
)
def test_a_model_without_masks_per_sequence_is_refused_with_the_reason(
    methods: tuple[Regularizer, ...],
) -> None:
    with pytest.raises(ValueError, match="none of them has a mask that lasts for a sequence"):
        monte_carlo(Case("lstm").build(*methods), inputs(), mc_samples=2)


def test_the_mean_of_a_linear_network_is_its_evaluation() -> None:
    """Within four standard errors; elsewhere the mean of the samples is another prediction."""
    model = Case("lstm").build(RNNDrop(0.4), hidden_size=8)
    with torch.no_grad():
        model.weights(0, 0).weight_hh.zero_()

    result = monte_carlo(model, inputs(1), mc_samples=1500)

    distance = (result.mean - model.eval()(inputs(1))[0]).abs()
    assert (distance <= 4 * result.std / 1500**0.5 + 1e-12).all()
