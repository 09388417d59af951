"""The loop, and the two tasks that it trains."""

import io
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from tidegate.train import Recurrent, Variational, Zoneout
from tidegate.train.data.buckets import IGNORED
from tidegate.train.data.lanes import Lanes, assign
from tidegate.train.data.series import Series, SeriesSplit
from tidegate.train.data.split import split_by_time
from tidegate.train.fit import (
    Epoch,
    ForecastingTask,
    Optimization,
    TrainingError,
    Validated,
    fit,
)
from tidegate.train.fit.forecasting import reset
from tidegate.train.fit.progress import Progress
from tidegate.train.forecaster import Forecaster
from tidegate.train.losses import label_loss, pinball_loss
from tidegate.train.masks import Masks
from tidegate.train.scaler import StandardScaler


@dataclass
class Scripted:
    """One weight that grows by a step an epoch, and validation scores from a list."""

    scores: list[float]
    higher_is_better: bool = False
    monitor: str = "score"
    model: nn.Module = field(default_factory=lambda: nn.Linear(1, 1, bias=False))
    loss: Callable[[Tensor], Tensor] = lambda weight: -weight.sum()

    def losses(self, epoch: int, start: int = 0) -> Iterator[Tensor]:
        self.epoch = epoch
        for _ in range(start, 3):
            yield self.loss(next(self.model.parameters()))

    def validate(self) -> Validated:
        assert not self.model.training
        return Validated({"score": self.scores[self.epoch - 1]}, f"of epoch {self.epoch}")

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


def run(task: Scripted, clip: float = 1.0, **options: object) -> list[Epoch]:
    settings = {"epochs": len(task.scores), "patience": 2, **options}
    return list(fit(task, Optimization(learning_rate=0.1, clip=clip), **settings).epochs)  # type: ignore[arg-type] # a test's shorthand


def test_the_model_ends_with_the_weights_of_the_best_epoch() -> None:
    task = Scripted([3.0, 1.0, 2.0])
    weights: list[float] = []

    def remember(_: Epoch) -> None:
        weights.append(next(task.model.parameters()).item())

    fitted = fit(task, Optimization(learning_rate=0.1), epochs=3, after_epoch=[remember])
    assert (fitted.best_epoch, fitted.best.metrics["score"]) == (2, 1.0)
    assert next(task.model.parameters()).item() == weights[1] != weights[2]


def test_predictions_are_shown_after_their_epoch_and_not_kept() -> None:
    seen: list[str] = []

    def remember(epoch: Epoch) -> None:
        seen.append(epoch.predictions)

    epochs = run(Scripted([2.0, 1.0]), after_epoch=[remember])
    assert seen == ["of epoch 1", "of epoch 2"]
    assert [epoch.predictions for epoch in epochs] == [None, None]


def test_training_stops_when_patience_runs_out() -> None:
    assert [epoch.is_best for epoch in run(Scripted([3, 2, 2, 2, 1]))] == [True, True, False, False]


def test_a_score_may_be_better_when_it_is_higher() -> None:
    epochs = run(Scripted([1, 2, 1], higher_is_better=True))
    assert [epoch.is_best for epoch in epochs] == [True, True, False]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_training_and_names_the_step(value: float) -> None:
    task = Scripted([1.0], loss=lambda weight: weight.sum() * value)
    with pytest.raises(TrainingError, match=r"epoch 1, step 1: the loss is -?(nan|inf)"):
        run(task)


def test_the_gradient_is_clipped() -> None:
    norms: list[float] = []
    task = Scripted([1.0], loss=lambda weight: 1000.0 * weight.sum())

    def remember(_: Epoch) -> None:
        norms.extend(float(p.grad.norm()) for p in task.model.parameters() if p.grad is not None)

    run(task, after_epoch=[remember], clip=0.5)
    assert norms == [pytest.approx(0.5, rel=1e-4)]


def test_progress_is_plain_lines_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    with Progress("co2", 2, "score", Console(file=out)) as progress:
        progress.advance(1, {"train_loss": 1.0, "score": 2.0}, is_best=True)
        progress.advance(2, {"train_loss": 0.5, "score": 3.0}, is_best=False)
    assert out.getvalue().splitlines() == [
        "co2: epoch 1/2  train_loss 1.0000  score 2.0000  best",
        "co2: epoch 2/2  train_loss 0.5000  score 3.0000",
    ]


def test_progress_is_a_bar_on_a_terminal() -> None:
    out = io.StringIO()
    with Progress("co2", 2, "score", Console(file=out, force_terminal=True, width=120)) as progress:
        progress.advance(1, {"train_loss": 1.0, "score": 2.0}, is_best=True)
    assert "1/2" in out.getvalue()
    assert "best 2.0000" in out.getvalue()


# Losses


def test_the_pinball_loss_is_that_of_numpy() -> None:
    generator = np.random.default_rng(0)
    quantiles, y = generator.normal(size=(2, 3, 4, 2, 3)), generator.normal(size=(2, 3, 4, 2))
    levels, scale = np.array([0.1, 0.5, 0.9]), np.array([0.5, 2.0])
    error = (y[..., None] - quantiles) / scale[:, None]
    expected = np.where(error > 0, levels * error, (levels - 1) * error).mean()
    found = pinball_loss(*(torch.from_numpy(a) for a in (quantiles, y, levels, scale)))
    np.testing.assert_allclose(float(found), expected, rtol=1e-12)


def test_an_unknown_target_has_neither_loss_nor_gradient() -> None:
    y = torch.tensor([[[[1.0]], [[math.nan]]]])
    quantiles = torch.zeros(1, 2, 1, 1, 1, requires_grad=True)
    loss = pinball_loss(quantiles, y, torch.tensor([0.5]), torch.ones(1))
    loss.backward()  # type: ignore[no-untyped-call] # torch leaves it without a signature
    assert float(loss.detach()) == 0.5
    assert quantiles.grad is not None
    assert quantiles.grad.flatten().tolist() == [-0.5, 0.0]


def test_a_batch_without_known_targets_has_no_loss() -> None:
    empty = torch.full((1, 1, 1, 1), math.nan)
    assert pinball_loss(torch.zeros(1, 1, 1, 1, 1), empty, torch.tensor([0.5]), torch.ones(1)) == 0
    assert label_loss(torch.zeros(1, 2, 3), torch.full((1, 2), IGNORED)) == 0


def test_padding_has_no_part_in_the_label_loss() -> None:
    logits = torch.randn(1, 3, 4)
    alone = label_loss(logits[:, :2], torch.tensor([[1, 2]]))
    assert torch.equal(label_loss(logits, torch.tensor([[1, 2, IGNORED]])), alone)


# Tasks


def waves(rows: int = 120) -> SeriesSplit:
    times = np.datetime64("2001-01-01", "ns") + np.arange(rows) * np.timedelta64(1, "D")
    values = np.sin(np.arange(rows) / 3)[:, None] + 0.05 * np.arange(rows)[:, None]
    series = Series("waves", times, values, ("level",), "D")
    return split_by_time(series, date(2001, 3, 22), date(2001, 4, 11))


def forecaster(split: SeriesSplit, *regularizers: Zoneout | Variational) -> Forecaster:
    torch.manual_seed(0)
    return Forecaster(
        Recurrent("gru", 1, 8, 2, regularizers=regularizers),
        features=("level",),
        targets=("level",),
        horizon=3,
        quantile_levels=(0.1, 0.5, 0.9),
        scaler=StandardScaler.fit(split.train.values, [True]),
        frequency="D",
    )


def test_a_reset_brings_single_rows_back_to_their_beginning() -> None:
    state, initial = (torch.ones(2, 3, 4),), (torch.full((2, 3, 4), math.nan),)
    (new,) = reset(state, initial, torch.tensor([False, True, False]))
    assert new[:, 1].isnan().all()
    assert bool((new[:, [0, 2]] == 1).all())


@torch.no_grad()
def test_cutting_the_gradient_does_not_change_the_forecasts() -> None:
    split = waves()
    model = forecaster(split).eval()
    totals = []
    for bptt in (7, 1000):
        lanes = Lanes([split.train], 2, bptt, 3, [0])
        segments = lanes.segments(np.random.default_rng((0, 1)))
        known = [float((~segment.y.isnan()).sum()) for segment in segments]
        losses = [float(loss) for loss in ForecastingTask(model, [split], 2, bptt).losses(1)]
        totals.append(sum(loss * count for loss, count in zip(losses, known, strict=True)))
    assert totals[0] == pytest.approx(totals[1], rel=1e-5)


def test_the_gradient_ends_with_its_segment() -> None:
    split = waves()
    losses = ForecastingTask(forecaster(split), [split], 2, 10).losses(1)
    # A second backward pass through the first segment's graph would raise.
    for loss in (next(losses), next(losses)):
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it without a signature


def test_training_is_the_same_for_the_same_seed() -> None:
    split = waves()
    weights = []
    for _ in range(2):
        model = forecaster(split, Zoneout(hidden=0.1), Variational(0.1, hidden_p=0.0))
        fit(ForecastingTask(model, [split], 2, 20), Optimization(learning_rate=0.01), epochs=2)
        weights.append(torch.cat([weight.flatten() for weight in model.parameters()]))
    assert torch.equal(*weights)


def test_a_forecaster_learns() -> None:
    split = waves()
    task = ForecastingTask(forecaster(split), [split], 2, 20)
    epochs = fit(task, Optimization(learning_rate=0.02), epochs=8).epochs
    assert epochs[-1].metrics["train_loss"] < 0.7 * epochs[0].metrics["train_loss"]
    assert epochs[-1].metrics["validation_loss"] < epochs[0].metrics["validation_loss"]


def test_persistent_masks_last_as_long_as_a_lanes_state(monkeypatch: pytest.MonkeyPatch) -> None:
    split = waves()
    model = forecaster(split, Variational(0.5))
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    draw = Recurrent.sample_masks

    def remember(self: Recurrent, batch: int, time: int, **options: Any) -> Masks:
        masks = draw(self, batch, time, **options)
        assert masks.layers[0][0].hidden is not None
        seen.append((options["sequences"], masks.layers[0][0].hidden))
        return masks

    monkeypatch.setattr(Recurrent, "sample_masks", remember)
    # Three stretches on two lanes: one lane begins a second stretch.
    task = ForecastingTask(model, [split, split, split], 2, 10, persistent_masks=True)
    for epoch in (1, 2):
        assert len(list(task.losses(epoch))) > 3

    first: dict[int, torch.Tensor] = {}
    for numbers, masks in seen:
        for row, number in enumerate(numbers.tolist()):
            assert masks[:, row].equal(first.setdefault(number, masks[:, row]))
    assert len(first) >= 6
    assert len({tuple(mask.flatten().tolist()) for mask in first.values()}) == len(first)


def test_a_stretch_has_one_number_over_all_its_segments() -> None:
    split = waves()
    lanes = Lanes([split.train] * 3, 2, 10, 3, [0])

    numbers: dict[int, list[bool]] = {}
    for segment in lanes.segments():
        for row, known in enumerate(~segment.y.isnan().flatten(1).all(dim=1)):
            if known:
                number = int(segment.stretch[row])
                numbers.setdefault(number, []).append(bool(segment.reset[row]))

    assert all(begins[0] and not any(begins[1:]) for begins in numbers.values())
    assert len(numbers) == sum(len(stretches) for stretches in assign([len(split.train)] * 3, 2))
