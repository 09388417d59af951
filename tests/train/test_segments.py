"""Steps over segments that end at every observation, beside the plain equations."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.models import segmented_forecaster
from tidegate.train import Forecaster, Recurrent
from tidegate.train.scaler import StandardScaler
from tidegate.train.segments import run_dilated, windows

TIME = 23
SHAPES: list[dict[str, Any]] = [
    {"cell": cell, "segment": segment, "channel_independent": channels}
    for cell, segment, channels in itertools.product(("gru", "lstm"), (1, 4), (True, False))
    if segment > 1 or channels
]
LAGGED: list[dict[str, Any]] = [
    {"segment": segment, "channel_independent": True, "lags": lags}
    for segment, lags in ((1, 1), (1, 5), (4, 2), (4, 9))
]
SHAPES += LAGGED


def series(model: Forecaster, batch: int = 2) -> torch.Tensor:
    return model.example(batch, TIME, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_each_phase_is_the_network_over_every_wth_step(cell: str) -> None:
    """h_t = cell(x_t, h_{t-w}): w plain networks, each over the steps of one phase."""
    torch.manual_seed(0)
    network, w = Recurrent(cell, 3, 5, 2).eval(), 4  # type: ignore[arg-type]  # both are cells
    x = torch.randn(2, TIME, 3)
    ring = torch.zeros(2 * w, 2, 5)

    output, _ = run_dilated(
        network, x, torch.tensor([TIME, TIME]), (ring, ring) if cell == "lstm" else (ring,), w
    )

    for phase in range(w):
        alone, _ = network(x[:, phase::w])
        torch.testing.assert_close(output[:, phase::w], alone)


def test_a_window_ends_at_its_own_step() -> None:
    reads = torch.arange(6.0).view(1, 3, 2)
    before = torch.tensor([[[-4.0, -3.0]], [[-2.0, -1.0]]])

    read = windows(reads, before)

    assert read[0, 0].tolist() == [-4, -2, 0, -3, -1, 1]
    assert read[0, 2].tolist() == [0, 2, 4, 1, 3, 5]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@given(bounds=st.lists(st.integers(1, TIME - 1), max_size=TIME, unique=True))
@settings(max_examples=10, deadline=None)
def test_any_split_of_a_series_gives_the_same_forecasts_and_states(
    shape: dict[str, Any], bounds: list[int]
) -> None:
    model = segmented_forecaster(**shape)
    x = series(model)
    with torch.no_grad():
        whole, last = model(x)
        state, parts = model.initial_state(2), []
        for start, stop in itertools.pairwise([0, *sorted(bounds), TIME]):
            part, state = model(x[:, start:stop], None, state)
            parts.append(part)

    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-6, atol=1e-4)
    for found, expected in zip(state, last, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("length", [1, 3, 9])
def test_a_short_row_is_what_it_is_alone(shape: dict[str, Any], length: int) -> None:
    model = segmented_forecaster(**shape)
    x = series(model)
    x[1, length:] = torch.nan

    forecasts, state = model(x, torch.tensor([TIME, length]))
    alone, last = model(x[1:, :length])

    torch.testing.assert_close(forecasts[1:, :length], alone, rtol=1e-6, atol=1e-4)
    for found, expected in zip(state, last, strict=True):
        torch.testing.assert_close(found[:, 1:], expected)


@pytest.mark.parametrize("shape", [{}, *LAGGED], ids=str)
def test_the_future_changes_no_forecast(shape: dict[str, Any]) -> None:
    model = segmented_forecaster(**shape)
    x = series(model)
    changed = x.clone()
    changed[:, 12:] += 100.0

    before, after = model(x)[0], model(changed)[0]

    assert torch.equal(before[:, :12], after[:, :12])


def test_lags_are_the_distances_from_the_last_value() -> None:
    """The head as an autoregression by itself: weights of the distances, in units of the target."""
    model = segmented_forecaster(channel_independent=True, lags=9)
    with torch.no_grad():
        model.center.zero_()
        model.head.linear.weight.zero_()
        model.head.linear.bias.zero_()
        # The middle one step ahead, from the distances to x_{t-9} and x_{t-2}.
        model.head.linear.weight[0, 8] = 0.25
        model.head.linear.weight[0, 8 + 7] = 0.5
    x = series(model)

    forecasts, _ = model(x)

    now, near, far = x[:, 9:], x[:, 7:-2], x[:, :-9]
    expected = now + 0.25 * (now - far) + 0.5 * (now - near)
    torch.testing.assert_close(forecasts[:, 9:, 0, :, 1], expected, rtol=1e-5, atol=1e-3)
    begin = x[:, 1] + 0.25 * (x[:, 1] - x[:, 0]) + 0.5 * (x[:, 1] - x[:, 0])
    torch.testing.assert_close(forecasts[:, 1, 0, :, 1], begin, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("lags", [0, 9])
def test_a_channel_of_its_own_sees_no_other(lags: int) -> None:
    model = segmented_forecaster(channel_independent=True, lags=lags)
    x = series(model)
    changed = x.clone()
    changed[..., 1] *= 3.0

    before, after = model(x)[0], model(changed)[0]

    assert torch.equal(before[..., [0, 2], :], after[..., [0, 2], :])
    assert not torch.equal(before[..., 1, :], after[..., 1, :])


def test_channels_share_their_weights() -> None:
    """Two channels of the same values are forecast alike."""
    values = np.random.default_rng(0).normal(size=(50, 1)).cumsum(axis=0).repeat(2, axis=1)
    torch.manual_seed(0)
    model = Forecaster(
        Recurrent("gru", 4, 5),
        features=("a", "b"),
        targets=("a", "b"),
        horizon=3,
        quantile_levels=(0.1, 0.5, 0.9),
        scaler=StandardScaler.fit(values, (True, True)),
        frequency="h",
        segment=4,
        channel_independent=True,
    )

    forecasts, _ = model(torch.from_numpy(values[None, :20]).float())

    torch.testing.assert_close(forecasts[..., 0, :], forecasts[..., 1, :])


@pytest.mark.parametrize("lags", [0, 9])
def test_every_weight_of_a_segmented_network_learns(lags: int) -> None:
    model = segmented_forecaster(channel_independent=True, lags=lags).train()
    x = series(model)

    distribution, _ = model.distribution(x)
    loss = model.loss(distribution, torch.randn(2, TIME, 4, 3) + 100)
    loss.backward()  # type: ignore[no-untyped-call] # torch's

    assert all(one.grad is not None and one.grad.any() for one in model.parameters())


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"segment": 0}, "segment=0 is out of range"),
        ({"segment": 3}, "recurrent.input_size=12, batch_first=True; a forecaster of 3 features"),
        (
            {"segment": 12, "channel_independent": True, "targets": ("a",)},
            r"targets=\['a'\] with channel_independent=True: each feature is forecast",
        ),
        ({"segment": 4, "lags": -1}, "lags=-1 is out of range"),
        (
            {"segment": 4, "lags": 2},
            r"lags=2 with channel_independent=False and scaler.differenced=\[False, False, False\]",
        ),
        (
            {"segment": 12, "channel_independent": True, "lags": 2},
            "lags are sums of changes, channel by channel; difference every feature",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], text: str) -> None:
    arguments: dict[str, Any] = {"targets": ("a", "b", "c")} | changes
    with pytest.raises(ValueError, match=text):
        Forecaster(
            Recurrent("gru", 12, 5),
            features=("a", "b", "c"),
            horizon=3,
            quantile_levels=(0.5,),
            scaler=StandardScaler.fit(np.random.default_rng(0).normal(size=(9, 3))),
            frequency="h",
            **arguments,
        )
