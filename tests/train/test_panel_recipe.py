"""A recipe over many series with covariates, from the table to the file that is served."""

import io
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest

from tidegate.train import checkpoint, job
from tidegate.train.__main__ import main
from tidegate.train.build import build_model, load_data
from tidegate.train.config import Config, load
from tidegate.train.data.panel import Panel
from tidegate.train.evaluate.backtest import Backtest

RECIPE = """
name = "shops"
task = "forecasting"

[dataset]
name = "csv"
path = "{path}"
id_column = "shop"
time_column = "day"
targets = ["sales"]
hist_exog = ["visitors"]
futr_exog = ["holiday"]
stat_exog = ["area"]
cat_exog = ["kind"]
calendar = ["day_of_week"]
gaps = "insert"
missing = "mark"
units = {{ sales = "EUR" }}
scaler = "mean_abs"

[model]
hidden_size = 6
num_layers = 1

[training]
epochs = 2
lanes = 4
bptt = 14

[forecast]
horizon = 2
season = 7
"""


def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frames = []
    for index, (shop, kind) in enumerate((("north", "food"), ("south", "food"), ("west", "toys"))):
        days = pd.date_range(end="2001-04-20", periods=110 - 10 * index, freq="D")
        week = np.sin(2 * np.pi * np.arange(len(days)) / 7)
        frames.append(
            pd.DataFrame(
                {
                    "shop": shop,
                    "day": days,
                    "sales": 100.0 + 20 * week + rng.normal(size=len(days)),
                    "visitors": 50.0 + 5 * week,
                    "holiday": (np.arange(len(days)) % 11 == 0).astype(int),
                    "area": 100.0 + index,
                    "kind": kind,
                }
            )
        )
    # One day of one shop is not there.
    return pd.concat(frames, ignore_index=True).drop(index=40)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    data = tmp_path / "shops.csv"
    table().to_csv(data, index=False)
    path = tmp_path / "shops.toml"
    path.write_text(RECIPE.format(path=data))
    return path


FEATURES = (
    "sales",
    "visitors",
    "sales_missing",
    "visitors_missing",
    "holiday",
    "holiday[t+1]",
    "holiday[t+2]",
    "area",
    "kind=food",
    "kind=toys",
    "day_of_week_sin",
    "day_of_week_cos",
)


def trained(recipe: Path) -> tuple[Config, Panel, Path]:
    """A checkpoint of the recipe's model after its two epochs."""
    config = load(recipe)
    data = load_data(config)
    assert isinstance(data, Panel)
    model = build_model(config, data)
    job.train(config, model, data)
    return config, data, checkpoint.save(recipe.with_name("model.pt"), config, model)


def test_the_file_names_every_column_and_forecasts_what_the_backtest_does(
    recipe: Path, tmp_path: Path
) -> None:
    config, data, path = trained(recipe)
    model = checkpoint.load(path).model
    evaluation = job.evaluate(config, model, data)
    spec = job.export(config, model, data, evaluation, tmp_path / "model.onnx")
    assert tuple(feature.name for feature in spec.forecast.features) == FEATURES
    assert spec.forecast.features[0].unit == "EUR"
    assert list(spec.forecast.targets) == ["sales"]

    session = onnxruntime.InferenceSession(
        str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    tests: tuple[Backtest, ...] = evaluation.predictions
    assert [test.series.name for test in tests] == ["north", "south", "west"]
    for test in tests:
        # Row after row, as a stream comes.
        state = np.zeros((1, 1, 6), np.float32)
        answers = []
        for row in test.series.values[: test.origins[-1] + 1].astype(np.float32):
            feed = {"x": row[None, None], "lengths": np.ones(1, np.int32), "h": state}
            quantiles, state = session.run(["quantiles", "h_next"], feed)
            answers.append(quantiles[0, 0])
        np.testing.assert_allclose(
            np.stack(answers)[test.origins], test.quantiles, rtol=1e-4, atol=1e-3
        )


def test_scores_in_detail_are_written_for_each_series_and_step(
    recipe: Path, tmp_path: Path
) -> None:
    _, _, path = trained(recipe)
    out = io.StringIO()
    with redirect_stdout(out):
        assert main(["evaluate", str(path), "--tables", str(tmp_path / "tables")]) == 0
    assert "mase_ridge" in out.getvalue()
    by_series = pd.read_csv(tmp_path / "tables" / "by_series.csv")
    assert by_series["unique_id"].tolist() == ["north", "south", "west"]
    by_horizon = pd.read_csv(tmp_path / "tables" / "by_horizon.csv")
    assert by_horizon["step"].tolist() == [1, 2]


def test_what_is_wrong_in_a_table_is_printed_for_every_series(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = table()
    values = wrong["sales"].tolist()
    wrong["sales"] = [*values[:3], "closed", *values[4:]]
    days = wrong["day"].tolist()
    wrong["day"] = [*days[:250], days[249], *days[251:]]
    wrong.to_csv(tmp_path / "shops.csv", index=False)
    assert main(["data", "check", str(recipe)]) == 2
    said = capsys.readouterr()
    assert "problem: series 'north', row 3, time 2001-01-04: sales is 'closed'" in said.out
    assert "series 'west', row 250" in said.out
    assert "2 problems in" in said.err


def test_the_rows_of_each_part_are_counted(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(recipe)]) == 0
    said = capsys.readouterr().out
    assert "validation" in said
    assert "2001-01-01" in said


def test_shuffled_windows_train_too(recipe: Path) -> None:
    config = load(recipe, {"training.lookback": 14, "training.epochs": 4})
    data = load_data(config)
    fitted = job.train(config, build_model(config, data), data)
    assert fitted.epochs[-1].metrics["train_loss"] < fitted.epochs[0].metrics["train_loss"]


def test_a_feature_without_spread_is_named(recipe: Path) -> None:
    config = load(recipe, {"dataset.scaler": "robust"})
    data = load_data(config)
    with pytest.raises(ValueError, match="feature 'holiday' of values is mostly one value"):
        build_model(config, data)
