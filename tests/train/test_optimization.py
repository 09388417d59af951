"""The learning rate's schedules, and the averaging of weights."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tidegate.train.fit import Optimization
from tidegate.train.fit.averaging import NonMonotonicAveraging

# With an interval of 2, the last two epochs are disregarded.
INTERVAL = 2


def rates(optimization: Optimization, metrics: list[float]) -> list[float]:
    """The learning rate of each epoch."""
    optimizer = optimization.build_optimizer(nn.Linear(1, 1))
    schedule = optimization.build_schedule(optimizer, len(metrics), higher_is_better=False)
    found = []
    for metric in metrics:
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step(metric)
    return found


def test_the_cosine_falls_towards_a_tenth() -> None:
    found = rates(Optimization(learning_rate=2.0), [1.0] * 4)
    expected = 2.0 * (0.55 + 0.45 * np.cos(np.pi * np.arange(4) / 4))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_constant_rate_stays() -> None:
    assert rates(Optimization(learning_rate=2.0, schedule="constant"), [1.0] * 3) == [2.0] * 3


def test_a_plateau_lowers_the_rate_after_its_patience() -> None:
    optimization = Optimization(
        learning_rate=1.0, schedule="plateau", plateau_patience=1, plateau_factor=0.5
    )
    # The second epoch without a better metric is one too many.
    assert rates(optimization, [3, 2, 2, 2, 1, 1]) == [1, 1, 1, 1, 0.5, 0.5]


def test_sgd_takes_plain_gradient_steps() -> None:
    model = nn.Linear(1, 1, bias=False)
    before = model.weight.item()
    optimizer = Optimization(learning_rate=0.5, optimizer="sgd").build_optimizer(model)
    (2 * model.weight.sum()).backward()  # type: ignore[no-untyped-call] # torch leaves it without a signature
    optimizer.step()
    assert model.weight.item() == pytest.approx(before - 1.0)


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ({"optimizer": "adam"}, "optimizer='adam' is unknown; did you mean 'adamw'"),
        ({"schedule": "cosin"}, "schedule='cosin' is unknown; did you mean 'cosine'"),
    ],
)
def test_an_unknown_name_is_refused_with_a_suggestion(argument: dict[str, str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Optimization(learning_rate=1.0, **argument)  # type: ignore[arg-type] # that is the point


@given(st.lists(st.integers(0, 4), min_size=1, max_size=10))
def test_averaging_begins_when_an_epoch_is_worse_than_the_best_of_the_older_ones(
    losses: list[int],
) -> None:
    averaging = NonMonotonicAveraging(nn.Linear(1, 1), INTERVAL, higher_is_better=False)
    triggered = False
    for epoch, loss in enumerate(losses):
        averaging.after_epoch(loss)
        older = losses[: max(0, epoch - INTERVAL)]
        triggered |= bool(older) and loss > min(older)
        assert averaging.is_triggered == triggered


def test_the_mean_is_that_of_all_weights_since_the_trigger() -> None:
    model = nn.Linear(1, 1, bias=False)
    averaging = NonMonotonicAveraging(model, 1, higher_is_better=True)
    for weight, metric in ((9.0, 2.0), (9.0, 2.0), (1.0, 1.0)):
        set_weight(model, weight)
        averaging.after_step()
        averaging.after_epoch(metric)
    for weight in (2.0, 6.0):
        set_weight(model, weight)
        averaging.after_step()
    with averaging.applied():
        assert model.weight.item() == pytest.approx((1 + 2 + 6) / 3)
    assert model.weight.item() == 6.0


def test_before_the_trigger_the_weights_are_their_own_mean() -> None:
    model = nn.Linear(1, 1, bias=False)
    averaging = NonMonotonicAveraging(model, 1, higher_is_better=True)
    set_weight(model, 3.0)
    averaging.after_step()
    with averaging.applied():
        assert model.weight.item() == 3.0


@torch.no_grad()
def set_weight(model: nn.Linear, value: float) -> None:
    model.weight.fill_(value)
