"""What the heads of a forecaster say, beside SciPy's distributions."""

import numpy as np
import pytest
import torch
from scipy import stats

from support.models import HEADS, forecaster_with
from tidegate.train.heads import (
    Frame,
    NegativeBinomialHead,
    QuantileHead,
    Shape,
    StudentTHead,
)
from tidegate.train.heads.negative_binomial import check_counts

LEVELS = (0.05, 0.5, 0.9)
SHAPE = Shape(horizon=3, targets=2, quantile_levels=LEVELS)
FRAME = Frame(torch.randn(4, 5, 2), torch.tensor([2.0, 0.5]), torch.tensor([7.0, 30.0]))


def hidden(seed: int = 0) -> torch.Tensor:
    return torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(seed))


def student_t() -> StudentTHead:
    torch.manual_seed(0)
    head = StudentTHead(6, SHAPE)
    head.set_df(torch.tensor([[2.5, 3.0], [5.0, 8.0], [30.0, 200.0]]))
    return head


def negative_binomial(largest_count: int = 500) -> NegativeBinomialHead:
    torch.manual_seed(0)
    head = NegativeBinomialHead(6, SHAPE, largest_count)
    head.set_dispersion(torch.tensor([0.1, 1.5]))
    return head


@pytest.mark.parametrize("name", HEADS)
def test_quantiles_of_every_head_ascend(name: str) -> None:
    model = forecaster_with(name)
    with torch.no_grad():
        model.head.linear.weight.normal_(std=20.0)

    quantiles, _ = model(model.example(4, 30, torch.Generator().manual_seed(0)))

    assert (quantiles.diff(dim=-1) >= 0).all()


@pytest.mark.parametrize("steps", ["absolute", "squareplus"])
def test_the_quantile_nearest_the_median_is_linear_and_the_others_lie_around_it(steps: str) -> None:
    head = QuantileHead(6, SHAPE, steps)  # type: ignore[arg-type]  # both are
    quantiles = head.quantiles(head(hidden(), FRAME))

    raw = head.linear(hidden()).view(4, 5, 3, 2, 3)
    middle = FRAME.last_value[:, :, None] + raw[..., 0] * FRAME.scale
    torch.testing.assert_close(quantiles[..., 1], middle)
    widths = quantiles.diff(dim=-1) / FRAME.scale[:, None]
    expected = (
        raw[..., 1:].abs()
        if steps == "absolute"
        else (raw[..., 1:] + (raw[..., 1:] ** 2 + 4).sqrt()) / 2
    )
    torch.testing.assert_close(widths, expected, rtol=1e-4, atol=1e-5)


def test_a_step_of_zero_still_learns() -> None:
    """Unlike that of a rectified unit."""
    head = QuantileHead(1, Shape(1, 1, (0.1, 0.5, 0.9)))
    with torch.no_grad():
        head.linear.weight.zero_()
        head.linear.bias.copy_(torch.tensor([0.0, -0.01, -0.01]))
    optimizer = torch.optim.SGD(head.parameters(), lr=0.3)
    y = torch.randn(1, 2000, 1, 1, generator=torch.Generator().manual_seed(0))
    frame = Frame(torch.zeros(1, 2000, 1), torch.ones(1), torch.ones(1))

    for _ in range(300):
        loss = head.loss(head(torch.ones(1, 2000, 1), frame), y, frame.scale)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch's
        optimizer.step()

    found = head.quantiles(head(torch.ones(1, 2000, 1), frame))[0, 0].flatten().tolist()
    assert found == pytest.approx(stats.norm.ppf([0.1, 0.5, 0.9]).tolist(), abs=0.1)


def test_squared_errors_teach_the_mean_of_what_is_not_symmetric() -> None:
    head = QuantileHead(1, Shape(1, 1, (0.5,)), loss="squared")
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    y = torch.rand(1, 2000, 1, 1, generator=torch.Generator().manual_seed(0)) ** 4
    y[0, 0] = torch.nan
    frame = Frame(torch.zeros(1, 2000, 1), torch.full((1,), 0.5), torch.ones(1))

    for _ in range(100):
        loss = head.loss(head(torch.ones(1, 2000, 1), frame), y, frame.scale)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch's
        optimizer.step()

    known = y[0, 1:].flatten()
    found = head.quantiles(head(torch.ones(1, 2000, 1), frame))[0, 0].item()
    assert found == pytest.approx(known.mean().item(), abs=1e-4)
    assert abs(found - known.median().item()) > 0.05
    assert loss.item() == pytest.approx(known.var(correction=0).item() / 0.25, rel=1e-3)


def test_squared_errors_are_refused_beside_other_quantiles() -> None:
    with pytest.raises(ValueError, match=r"quantile_levels=\[0.1, 0.5\]: squared errors teach the"):
        QuantileHead(1, Shape(1, 1, (0.1, 0.5)), loss="squared")
    with pytest.raises(ValueError, match="loss='mse'"):
        QuantileHead(1, Shape(1, 1, (0.5,)), loss="mse")  # type: ignore[arg-type]  # refused


def test_the_quantiles_of_student_t_are_scipys() -> None:
    head = student_t()
    distribution = head(hidden(), FRAME)

    loc, scale, df = (
        tensor.detach().double().numpy()[..., None]
        for tensor in (distribution["loc"], distribution["scale"], head.df)
    )
    expected = stats.t.ppf(np.array(LEVELS), df, loc, scale)
    np.testing.assert_allclose(
        head.quantiles(distribution).detach(), expected, rtol=1e-5, atol=1e-5
    )


def test_the_loss_of_student_t_is_the_mean_negative_log_density() -> None:
    head = student_t()
    distribution = head(hidden(), FRAME)
    y = torch.randn(4, 5, 3, 2)
    y[0, 0, 1] = torch.nan

    loss = head.loss(distribution, y, FRAME.scale)

    density = stats.t.logpdf(
        y.numpy(),
        head.df.detach().numpy(),
        distribution["loc"].detach().numpy(),
        distribution["scale"].detach().numpy(),
    )
    # The density of a value in units of its scale.
    assert loss.item() == pytest.approx(-np.nanmean(density + np.log([2.0, 0.5])), rel=1e-5)


def test_the_quantiles_of_a_negative_binomial_are_scipys() -> None:
    head = negative_binomial()
    mean = torch.rand(200, 5, 3, 2) * 60

    found = head.quantiles({"mean": mean})

    r = 1 / head.dispersion.detach().double().numpy()
    p = r / (r + mean.double().numpy())
    expected = stats.nbinom.ppf(np.array(LEVELS), r[:, None], p[..., None])
    np.testing.assert_array_equal(found, expected)


def test_no_quantile_is_above_the_largest_count() -> None:
    head = negative_binomial(largest_count=20)

    assert head.largest_count == 31
    assert head.quantiles({"mean": torch.full((1, 1, 3, 2), 1e6)}).max() == 31


def test_the_loss_of_a_negative_binomial_is_the_mean_negative_log_probability() -> None:
    head = negative_binomial()
    distribution = head(hidden(), FRAME)
    y = torch.randint(0, 50, (4, 5, 3, 2)).float()
    y[0, 0, 1] = torch.nan

    loss = head.loss(distribution, y, FRAME.scale)

    r = 1 / head.dispersion.detach().double().numpy()
    p = r / (r + distribution["mean"].detach().double().numpy())
    assert loss.item() == pytest.approx(-np.nanmean(stats.nbinom.logpmf(y, r, p)), rel=1e-4)


@pytest.mark.parametrize("head", [student_t(), negative_binomial()], ids=["t", "nb"])
def test_an_unknown_value_reaches_no_gradient(head: StudentTHead | NegativeBinomialHead) -> None:
    y = torch.full((4, 5, 3, 2), torch.nan)
    y[0, 0] = 1.0

    loss = head.loss(head(hidden(), FRAME), y, FRAME.scale)
    loss.backward()  # type: ignore[no-untyped-call] # torch's

    assert all(one.grad is not None and one.grad.isfinite().all() for one in head.parameters())


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1.0, -2.0], "target 'sold' has the value -2; a negative binomial head forecasts counts"),
        ([1.0, 0.5], "target 'sold' has the value 0.5"),
        ([0.0, 0.0], "target 'sold' is 0 throughout"),
    ],
)
def test_what_is_no_count_is_refused(values: list[float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        check_counts("sold", np.array(values))


def test_offsets_move_each_quantile_in_raw_units() -> None:
    model = forecaster_with("quantile")
    x = model.example(1, 5, torch.Generator().manual_seed(0))
    before, _ = model(x)

    model.offsets[0, 1] = torch.tensor([-3.0, 0.0, 5.0])
    after, _ = model(x)

    torch.testing.assert_close((after - before)[0, :, 0, 1], torch.tensor([[-3.0, 0.0, 5.0]] * 5))
    assert torch.equal(after[..., 1:, :, :], before[..., 1:, :, :])
