"""The forecaster and its scaler."""

import numpy as np
import pytest
import torch

from support.models import FEATURES, small_forecaster, small_recurrent
from tidegate.train import Forecaster, Recurrent
from tidegate.train.heads import NegativeBinomialHead
from tidegate.train.heads.positive import squareplus
from tidegate.train.scaler import StandardScaler

VALUES = np.array([[10.0, 1.0], [12.0, 2.0], [16.0, 4.0], [18.0, 1.0]])


def test_a_differenced_feature_is_scaled_by_its_changes() -> None:
    scaler = StandardScaler.fit(VALUES, (True, False))

    changes, values = np.array([2.0, 4.0, 2.0]), np.array([2.0, 4.0, 1.0])
    np.testing.assert_allclose(scaler.center, [changes.mean(), values.mean()])
    np.testing.assert_allclose(scaler.scale, [changes.std(), values.std()])
    np.testing.assert_allclose(scaler.level, [14.0, 2.0])


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.ones((5, 1)), "feature 0 of values is constant; leave it out"),
        (np.ones((1, 2)), r"values has the shape \[1, 2\]"),
        (np.array([[1.0], [np.nan]]), r"values\[1, 0\]=nan is not finite"),
    ],
)
def test_values_that_cannot_be_scaled_are_refused(values: np.ndarray, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        StandardScaler.fit(values)


def test_changing_the_future_never_changes_a_forecast() -> None:
    model = small_forecaster()
    x = model.example(2, 20, torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[:, 12:] += 100.0

    before, _ = model(x)
    after, _ = model(changed)

    assert torch.equal(before[:, :12], after[:, :12])
    assert not torch.equal(before[:, 12:], after[:, 12:])


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_stream_forecasts_what_the_whole_series_does(cell: str) -> None:
    model = small_forecaster(cell)
    x = model.example(2, 20, torch.Generator().manual_seed(0))
    whole, final = model(x)

    state, steps = model.initial_state(2), []
    for t in range(20):
        step, state = model(x[:, t : t + 1], None, state)
        steps.append(step)

    torch.testing.assert_close(torch.cat(steps, dim=1), whole, rtol=1e-6, atol=1e-4)
    for stepped, at_once in zip(state, final, strict=True):
        torch.testing.assert_close(stepped, at_once)


def test_a_level_never_seen_in_training_shifts_the_forecast_with_it() -> None:
    model = small_forecaster()
    x = model.example(1, 20, torch.Generator().manual_seed(0))
    shift = torch.tensor([1024.0, 0.0, 0.0])

    here, _ = model(x)
    there, _ = model(x + shift)

    moved = there - here
    torch.testing.assert_close(moved[..., 0, :], torch.full_like(moved[..., 0, :], 1024.0))
    torch.testing.assert_close(there[..., 1, :], here[..., 1, :], rtol=1e-4, atol=1e-2)


def test_quantiles_never_cross() -> None:
    model = small_forecaster()
    with torch.no_grad():
        model.head.linear.weight.normal_(std=50.0)

    quantiles, _ = model(model.example(4, 30, torch.Generator().manual_seed(0)))

    assert (quantiles.diff(dim=-1) >= 0).all()


def test_squareplus_is_positive_and_near_x_for_large_x() -> None:
    x = torch.linspace(-50, 50, 101, dtype=torch.float64)

    assert (squareplus(x) > 0).all()
    assert squareplus(x)[-1] == pytest.approx(50.0, abs=0.03)


def test_a_single_quantile_is_a_point_forecast() -> None:
    scaler = StandardScaler.fit(VALUES, (True, False))
    model = Forecaster(
        Recurrent("gru", 2, 4),
        features=("a", "b"),
        targets=("a",),
        horizon=3,
        quantile_levels=(0.5,),
        scaler=scaler,
        frequency="D",
    )

    quantiles, _ = model(torch.zeros(1, 2, 2))

    assert quantiles.shape == (1, 2, 3, 1, 1)


def test_padding_may_hold_anything_and_gets_no_gradient() -> None:
    model = small_forecaster()
    x = model.example(2, 6, torch.Generator().manual_seed(0))
    x[0, 4:] = torch.nan
    x.requires_grad_()

    quantiles, _ = model(x, torch.tensor([4, 6]))
    (quantiles[0, :4].sum() + quantiles[1].sum()).backward()

    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert (x.grad[0, 4:] == 0).all()


def build(changes: dict[str, object], recurrent: Recurrent | None = None) -> Forecaster:
    arguments: dict[str, object] = {
        "features": FEATURES,
        "targets": ("level",),
        "horizon": 4,
        "quantile_levels": (0.1, 0.5, 0.9),
        "scaler": StandardScaler.fit(np.random.default_rng(0).normal(size=(9, 3))),
        "frequency": "h",
    } | changes
    return Forecaster(recurrent or small_recurrent(), **arguments)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"targets": ("levle",)}, "targets='levle' is unknown; did you mean 'level'"),
        ({"horizon": 0}, "horizon=0 is out of range; give a whole number from 1 up"),
        ({"quantile_levels": (0.9, 0.1)}, r"quantile_levels=\[0.9, 0.1\] is not usable"),
        ({"quantile_levels": (0.0, 0.5)}, r"quantile_levels=\[0.0, 0.5\] is not usable"),
        ({"quantile_levels": ()}, r"quantile_levels=\[\] is not usable"),
        ({"head": NegativeBinomialHead}, r"scaler.level of the targets \['level'\] is \[-0"),
        ({"features": ("level",)}, "recurrent.input_size=3, batch_first=True; a forecaster of 1"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changes: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        build(changes)


def test_a_bidirectional_network_is_refused_since_the_future_is_not_known() -> None:
    with pytest.raises(ValueError, match="the future is not known there, so only the past"):
        build({}, small_recurrent(bidirectional=True))
