"""``[forecast]`` and ``[model]`` as a forecaster is built from them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tidegate.train.build import build_model, load_data
from tidegate.train.config import load
from tidegate.train.data.panel import Panel
from tidegate.train.evaluate.backtest import backtests
from tidegate.train.forecaster import Forecaster
from tidegate.train.heads import HEADS, NegativeBinomialHead
from tidegate.train.tasks.forecasting import Forecasting

ROWS = 60


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Two columns of counts, both targets."""
    counts = np.random.default_rng(0).poisson(5.0, size=(ROWS, 2))
    lines = [f"{row},{a},{b}" for row, (a, b) in enumerate(counts.tolist())]
    (tmp_path / "counts.csv").write_text("\n".join(["ds,a,b", *lines]))
    file = tmp_path / "recipe.toml"
    file.write_text(
        f"""
        name = "counts"
        task = "forecasting"
        [dataset]
        name = "csv"
        path = "{tmp_path / "counts.csv"}"
        frequency = "1"
        targets = ["a", "b"]
        part_rows = [40, 10, 10]
        [forecast]
        horizon = 2
        """
    )
    return file


def built(recipe: Path, **settings: Any) -> Forecaster:
    config = load(recipe, {name.replace("__", "."): value for name, value in settings.items()})
    model = build_model(config, load_data(config))
    assert isinstance(model, Forecaster)
    return model


@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_chosen_by_its_name(name: str, recipe: Path) -> None:
    assert built(recipe, forecast__head=name).head.name == name


def test_squared_errors_train_and_validate_the_mean(recipe: Path) -> None:
    settings = {"forecast.quantile_levels": "[0.5]", "forecast.loss": "squared"}
    config = load(recipe, settings)
    data = load_data(config)
    model = build_model(config, data)
    assert isinstance(model, Forecaster)
    assert isinstance(data, Panel)

    task = Forecasting().fit_task(config, model, data)

    (test,) = backtests(model, data.splits, "validation")
    error = (test.truth - test.median) / model.target_scale.numpy()
    assert task.validate().metrics["validation_loss"] == pytest.approx(float((error**2).mean()))


@pytest.mark.parametrize(
    "settings", [{}, {"forecast.quantile_levels": "[0.5]", "forecast.head": "student_t"}]
)
def test_squared_errors_go_with_the_mean_alone(settings: dict[str, str], recipe: Path) -> None:
    with pytest.raises(ValueError, match="squared errors teach the mean alone; take head"):
        load(recipe, {"forecast.loss": "squared"} | settings)


def test_a_negative_binomial_gets_its_largest_count(recipe: Path) -> None:
    model = built(recipe, forecast__head="negative_binomial", forecast__largest_count="63")

    assert isinstance(model.head, NegativeBinomialHead)
    assert model.head.largest_count == 63


def test_what_is_no_count_is_refused_by_its_name(recipe: Path) -> None:
    table = recipe.with_name("counts.csv")
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:5], lines[5].rsplit(",", 1)[0] + ",-3", *lines[6:]]))

    with pytest.raises(ValueError, match="target 'b' has the value -3"):
        built(recipe, forecast__head="negative_binomial")


def test_segments_and_channels_give_the_network_its_width(recipe: Path) -> None:
    both = built(recipe, model__segment="6")
    apart = built(recipe, model__segment="6", model__channel_independent="true")

    assert (both.recurrent.input_size, apart.recurrent.input_size) == (12, 6)
    assert apart.head.linear.out_features < both.head.linear.out_features


def test_lags_widen_the_head_and_begin_at_nothing(recipe: Path) -> None:
    settings = {"model__channel_independent": "true", "dataset__differenced": '["a", "b"]'}

    model = built(recipe, model__lags="5", **settings)

    width = model.recurrent.output_size
    assert model.head.linear.in_features == width + 5
    assert not model.head.linear.weight[:, width:].any()
    assert model.head.linear.weight[:, :width].all()


def test_a_differenced_feature_is_scaled_by_what_is_asked_for(recipe: Path) -> None:
    differenced = {"dataset__differenced": '["a"]'}
    changes = built(recipe, **differenced)
    values = built(recipe, **differenced, dataset__differenced_scale="values")

    train = np.loadtxt(recipe.with_name("counts.csv"), delimiter=",", skiprows=1)[:40, 1:]
    np.testing.assert_allclose(values.target_scale, train.std(axis=0), rtol=0.02)
    assert changes.target_scale[0].item() == pytest.approx(np.diff(train[:, 0]).std(), rel=1e-5)
    assert changes.target_scale[1] == values.target_scale[1]
    assert torch.equal(changes.center, values.center)
