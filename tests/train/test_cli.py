"""The command line, from a recipe to a registered file."""

import io
from contextlib import redirect_stdout
from pathlib import Path

import mlflow
import numpy as np
import onnxruntime
import pandas as pd
import pytest

from tidegate.train import checkpoint, job
from tidegate.train.__main__ import main
from tidegate.train.build import build_model, load_data
from tidegate.train.config import Config, load
from tidegate.train.depth import warn_if_deep

RECIPES = Path(__file__).parents[2] / "models" / "recipes"

TIDES = """
name = "tides"
task = "forecasting"

[dataset]
name = "csv"
frequency = "h"
differenced = ["level"]
units = { level = "m" }

[model]
hidden_size = 6

[[model.regularizers]]
name = "zoneout"

[training]
epochs = 2
lanes = 2
bptt = 30

[forecast]
horizon = 6
season = 12
"""


@pytest.fixture
def recipe(tmp_path: Path, store_uri: str) -> Path:
    hours = pd.date_range("2001-01-01", periods=400, freq="h")
    level = np.sin(np.arange(400) * 2 * np.pi / 12.4) + np.random.default_rng(0).normal(0, 0.1, 400)
    wind = np.random.default_rng(1).normal(5, 1, 400)
    data = tmp_path / "tides.csv"
    pd.DataFrame({"ds": hours, "level": level, "wind": wind}).to_csv(data, index=False)
    path = tmp_path / "tides.toml"
    extra = f'\n[tracking]\nuri = "{store_uri}"\nexperiment = "tests"\n'
    path.write_text(TIDES.replace('name = "csv"', f'name = "csv"\npath = "{data}"') + extra)
    return path


def command(*arguments: object) -> str:
    out = io.StringIO()
    with redirect_stdout(out):
        assert main([str(one) for one in arguments]) == 0
    return out.getvalue()


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(one) for one in arguments]) == 2
    return capsys.readouterr().err


@pytest.mark.slow
def test_fit_writes_a_file_that_is_registered_and_can_be_exported_again(
    recipe: Path, tmp_path: Path
) -> None:
    said = command("fit", recipe, "--training.epochs", "1", "--output", tmp_path / "out")
    assert "tides: epoch 1/1" in said
    assert "registered tides 1: champion, the first version" in said
    folder = tmp_path / "out" / "tides"
    assert "skill_seasonal_naive" in command("evaluate", folder / "model.pt")
    command("export", folder / "model.pt", "--output", tmp_path / "again.onnx")
    sessions = [
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for path in (folder / "model.onnx", tmp_path / "again.onnx")
    ]
    feed = {
        "x": np.ones((1, 5, 2), np.float32),
        "lengths": np.array([5], np.int32),
        "h": np.zeros((2, 1, 6), np.float32),
        "x_previous": np.full((1, 1, 2), np.nan, np.float32),
    }
    ours, theirs = (session.run(["quantiles"], feed)[0] for session in sessions)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_a_run_is_in_mlflow_with_all_that_it_was_made_of(recipe: Path, tmp_path: Path) -> None:
    config = load(recipe)
    result = job.run(config, tmp_path / "out")
    client = mlflow.MlflowClient(config.tracking.uri)
    found = client.get_run(result.run_id)
    assert found.data.params["model.regularizers"] == "zoneout()"
    assert [m.step for m in client.get_metric_history(result.run_id, "train_loss")] == [1, 2]
    assert found.data.metrics["test_mae"] == result.evaluation.metrics["mae"]
    assert found.data.metrics["parity_max_abs"] == result.spec.parity.max_absolute_error
    assert found.data.tags["data_digest"] == result.data.digest()
    files = {file.path for file in client.list_artifacts(result.run_id)}
    assert files >= {"config.json", "forecast.png", "by_horizon.json", "images"}
    logged = client.download_artifacts(result.run_id, "checkpoint/model.pt", str(tmp_path))
    assert Path(logged).read_bytes() == (tmp_path / "out" / "tides" / "model.pt").read_bytes()
    table = client.load_table(found.info.experiment_id, "by_horizon.json", run_ids=[result.run_id])
    mean = table["mae_seasonal_naive"].astype(float).mean()
    assert mean == pytest.approx(result.evaluation.metrics["mae_seasonal_naive"])
    champion = client.get_model_version_by_alias("tides", "champion")
    assert str(champion.version) == result.registered.version
    assert result.spec.provenance.mlflow_run_id == result.run_id
    assert [f.unit for f in result.spec.forecast.features] == ["m", ""]


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_committed_recipes_train(path: Path, store_uri: str, tmp_path: Path) -> None:
    config = load(path, {"training.epochs": 1, "tracking.uri": store_uri})
    assert job.run(config, tmp_path).path.is_file()


def test_a_checkpoint_gives_the_same_model_back(recipe: Path, tmp_path: Path) -> None:
    config = load(recipe)
    data = load_data(config)
    model = build_model(config, data)
    path = checkpoint.save(tmp_path / "model.pt", config, model)
    loaded = checkpoint.load(path)
    assert loaded.config == config
    ours, theirs = (job.evaluate(config, m, data).metrics for m in (model, loaded.model))
    assert ours == theirs


def test_a_file_that_is_no_checkpoint_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "`tidegate-train fit` writes one" in refusal(capsys, "evaluate", tmp_path / "none.pt")


def test_a_model_is_the_same_for_the_same_seed(recipe: Path) -> None:
    def first_weight(config: Config) -> float:
        return float(
            next(build_model(config, load_data(config)).parameters()).flatten()[0].detach()
        )

    assert first_weight(load(recipe)) == first_weight(load(recipe))
    assert first_weight(load(recipe)) != first_weight(load(recipe, {"seed": 1}))


@pytest.mark.parametrize(("steps", "usual"), [(280, 2), (10_000, 3), (929_589, 4)])
def test_more_layers_than_are_usual_for_the_data_warn(steps: int, usual: int) -> None:
    warn_if_deep(usual, steps)
    with pytest.warns(UserWarning, match=f"{steps} steps up to {usual} recurrent layers are usual"):
        warn_if_deep(usual + 1, steps)


def test_a_stack_too_deep_for_its_recipe_warns_when_it_is_built(recipe: Path) -> None:
    config = load(recipe, {"model.num_layers": 3})
    with pytest.warns(UserWarning, match="model.num_layers=3: .* compare with model.num_layers=2"):
        build_model(config, load_data(config))


def test_a_data_set_of_another_task_is_refused(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(capsys, "fit", recipe, "--task", "labelling")
    assert "dataset.name='csv' is for task = 'forecasting'" in said


def test_an_unknown_setting_is_refused_with_a_suggestion(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(capsys, "fit", recipe, "--training.epoch=3")
    assert "training.epoch is unknown; did you mean 'epochs'?" in said


def test_a_bidirectional_forecast_is_refused_before_anything_is_read(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(capsys, "fit", recipe, "--model.bidirectional", "true")
    assert "Set model.bidirectional = false" in said


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(["--seed"], "--seed has no value"), (["seed", "3"], "'seed' stands alone")],
)
def test_settings_without_name_or_value_are_refused(
    recipe: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert text in refusal(capsys, "fit", recipe, *arguments)


def test_the_data_sets_are_listed() -> None:
    said = command("data", "list")
    for name in ("co2", "csv", "homographs", "ud_english_ewt"):
        assert name in said
