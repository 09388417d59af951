"""The search for settings: a real study in sqlite, and nested runs in a real MLflow store."""

import multiprocessing
import tomllib
from pathlib import Path
from typing import Any

import mlflow
import optuna
import pytest
from sqlalchemy.engine import make_url

from support.postgres import PASSWORD, postgres
from support.tune_worker import work
from tidegate.train import build, config
from tidegate.train.__main__ import main
from tidegate.train.build import load_data
from tidegate.train.tasks import Data
from tidegate.train.tune import tune, write_recipe


@pytest.fixture
def recipe(tmp_path: Path, store_uri: str) -> Path:
    path = tmp_path / "nouns.toml"
    path.write_text(
        '# Small.\nname = "nouns"\ntask = "labelling"\n[dataset]\nname = "homographs"\n'
        "sentences = 60\n[model]\nhidden_size = 4\nembedding_size = 4\nnum_layers = 1\n"
        f'[training]\nepochs = 2\n[tracking]\nuri = "{store_uri}"\n'
        f'[tune]\ntrials = 4\nstorage = "sqlite:///{tmp_path}/tune.db"\n[tune.space]\n'
        '"training.learning_rate" = {type = "float", low = 1e-3, high = 0.1, log = true}\n'
        '"model.hidden_size" = {type = "int", low = 2, high = 6}\n'
        '"model.cell" = {type = "categorical", choices = ["gru", "lstm"]}\n'
    )
    return path


def test_every_trial_is_a_run_nested_in_one_and_the_best_becomes_a_recipe(
    recipe: Path, tmp_path: Path, store_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["--tune.trials", "3", "--training.patience", "7"]

    assert main(["tune", str(recipe), "--output", str(tmp_path / "out"), *overrides]) == 0

    assert "nouns: 3 trials; best validation_accuracy" in capsys.readouterr().out
    client = mlflow.MlflowClient(store_uri)
    experiment = client.get_experiment_by_name("tidegate")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if run.info.run_name == "nouns-tune")
    nested = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {run.data.tags["trial"] for run in nested} == {"0", "1", "2"}
    scores = [run.data.metrics["validation_accuracy"] for run in nested]
    assert parent.data.metrics["best_validation_accuracy"] >= max(scores)
    best = tmp_path / "out" / "nouns" / "best.toml"
    assert best.read_text().startswith("# Small.")
    assert tomllib.loads(best.read_text())["training"]["patience"] == 7
    assert config.load(best).tune is None
    study = optuna.load_study(study_name="nouns", storage=f"sqlite:///{tmp_path}/tune.db")
    assert config.load(best).model.hidden_size == study.best_params["model.hidden_size"]


def share(recipe: Path, output: Path, settings: dict[str, Any]) -> None:
    """Two workers take trials until the study has 8, after a first one."""
    tune(recipe, output, {**settings, "tune.trials": 1})
    context = multiprocessing.get_context("spawn")
    arguments = (str(recipe), str(output), {**settings, "tune.trials": 8})
    workers = [context.Process(target=work, args=arguments) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=200)
    assert [worker.exitcode for worker in workers] == [0, 0]


def check_shared(study: optuna.Study) -> None:
    # The last ones may be taken at the same time.
    assert 8 <= len(study.trials) <= 9
    assert len({tuple(trial.params.items()) for trial in study.trials}) > 2
    by_worker = {trial.user_attrs["worker"] for trial in study.trials}
    assert len(by_worker) == 3


@pytest.mark.slow
def test_two_workers_share_a_study(recipe: Path, tmp_path: Path) -> None:
    share(recipe, tmp_path / "out", {})

    check_shared(optuna.load_study(study_name="nouns", storage=f"sqlite:///{tmp_path}/tune.db"))


@pytest.mark.slow
def test_two_workers_share_a_study_in_a_real_postgresql(recipe: Path, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    with postgres() as url:
        storage = {"tune.storage": url, "tune.storage_password_file": str(file)}

        share(recipe, tmp_path / "out", storage)

        with_password = make_url(url).set(password=PASSWORD).render_as_string(hide_password=False)
        check_shared(optuna.load_study(study_name="nouns", storage=with_password))


def test_a_trial_that_is_worse_than_the_others_ends_early(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store_uri: str
) -> None:
    tune(recipe, tmp_path / "out", {"tune.trials": 1})
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda _: True)

    tuned = tune(recipe, tmp_path / "out", {"tune.trials": 2})

    study = optuna.load_study(study_name="nouns", storage=f"sqlite:///{tmp_path}/tune.db")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED"]
    assert tuned.trials == 2
    client = mlflow.MlflowClient(store_uri)
    experiment = client.get_experiment_by_name("tidegate")
    assert experiment is not None
    (pruned,) = client.search_runs([experiment.experiment_id], "tags.pruned = 'in epoch 1'")
    assert pruned.info.status == "FINISHED"


def test_trials_share_the_data_until_a_setting_of_the_data_changes(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[int] = []

    def load_and_count(settings: config.Config) -> Data:
        loaded.append(settings.dataset.sentences)
        return load_data(settings)

    monkeypatch.setattr(build, "load_data", load_and_count)
    tune(recipe, tmp_path / "out", {"tune.trials": 3})
    assert loaded == [60]

    recipe.write_text(
        recipe.read_text() + '"dataset.sentences" = {type = "categorical", choices = [50]}\n'
    )
    tune(recipe, tmp_path / "out", {"tune.trials": 5})
    # The settings of the recipe itself come first.
    assert loaded == [60, 60, 50]


@pytest.mark.parametrize("dataset", ["homographs", "co2"])
def test_no_setting_of_another_section_reaches_the_data(dataset: str) -> None:
    task = {"homographs": "labelling", "co2": "forecasting"}[dataset]
    plain = {"name": "a", "task": task, "dataset": {"name": dataset}}
    other = {
        **plain,
        "name": "b",
        "model": {"hidden_size": 3},
        "training": {"epochs": 2, "bptt": 9},
    }

    first, second = (build.load_data(config.Config.model_validate(one)) for one in (plain, other))

    assert first.digest() == second.digest()


def test_only_what_a_text_is_read_by_is_a_setting_of_its_data() -> None:
    def settings(**language: float) -> config.DataSettings:
        given = {"name": "a", "task": "language_modelling", "dataset": {"name": "text"}}
        return config.DataSettings.of(config.Config.model_validate(given | {"language": language}))

    assert settings(activation=2.0, temporal_activation=1.0) == settings()
    assert settings(min_count=3) != settings()


def test_a_name_that_is_no_setting_is_found_before_any_trial(recipe: Path, tmp_path: Path) -> None:
    text = recipe.read_text().replace('"model.hidden_size"', '"model.hiden_size"')
    recipe.write_text(text)

    with pytest.raises(ValueError, match=r"tune\.space: .*model\.hiden_size is unknown; did you"):
        tune(recipe, tmp_path / "out")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ('{type = "float", low = 2, high = 1}', "low = 2.0 is not below high = 1.0"),
        ('{type = "int", low = 0, high = 9, log = true}', "low = 0 has no logarithm"),
        ('{type = "categorical", choices = []}', "at least 1 item"),
    ],
)
def test_a_range_that_is_none_is_an_error(
    recipe: Path, tmp_path: Path, entry: str, message: str
) -> None:
    recipe.write_text(recipe.read_text() + f'"seed" = {entry}\n')

    with pytest.raises(ValueError, match=message):
        tune(recipe, tmp_path / "out")


def test_a_recipe_without_a_space_is_refused(recipe: Path, tmp_path: Path) -> None:
    plain = write_recipe(recipe, {}, tmp_path / "plain.toml")

    with pytest.raises(ValueError, match=r"plain\.toml has no section \[tune\]; give it one"):
        tune(plain, tmp_path / "out")


def test_a_password_in_the_storage_is_refused_and_not_shown(recipe: Path) -> None:
    storage = {"tune.storage": "postgresql+psycopg2://optuna:secret@postgres/optuna"}
    with pytest.raises(config.ConfigError, match=r"tune\.storage_password_file") as refused:
        config.load(recipe, storage)
    assert "secret" not in str(refused.value)


def test_a_password_file_that_is_not_there_is_named(recipe: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(config.ConfigError, match=r"storage_password_file = '.*missing': No such"):
        tune(recipe, tmp_path / "out", {"tune.storage_password_file": str(missing)})
