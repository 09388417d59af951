"""Labellers from a configuration, over files of sentences."""

from pathlib import Path

import mlflow
import pytest
import torch

from support.models import joint_labeller, small_labeller
from tidegate.train import checkpoint, job
from tidegate.train.build import build_model, load_data
from tidegate.train.config import Config, load
from tidegate.train.data.sentences import SentenceSplit
from tidegate.train.fit import LabellingTask
from tidegate.train.labeller import Labeller

RECIPES = sorted((Path(__file__).parents[2] / "examples" / "recipes").glob("*.toml"))

COLUMNS = "The DET\ngates NOUN\nopen VERB\n\nOpen VERB\nthe DET\ngate NOUN\n"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    for part in ("train", "dev", "test"):
        (tmp_path / part).write_text(COLUMNS)
    return Config.model_validate(
        {
            "name": "gates",
            "task": "labelling",
            "dataset": {
                "name": "conll",
                "path": tmp_path,
                "files": ["train", "dev", "test"],
                "min_count": 1,
            },
            "model": {
                "cell": "lstm",
                "hidden_size": 8,
                "num_layers": 1,
                "bidirectional": True,
                "embedding_size": 6,
                "characters": {
                    "embedding_size": 4,
                    "hidden_size": 5,
                    "min_count": 1,
                    "regularizers": [{"name": "zaremba", "p": 0.1, "granularity": "sequence"}],
                },
                "embedding_std": 0.5,
                "word_dropout": 0.1,
            },
            "training": {"epochs": 20, "learning_rate": 0.05, "patience": 20},
        }
    )


def test_a_labeller_is_built_as_the_configuration_says(config: Config) -> None:
    model = build_model(config, load_data(config))
    assert isinstance(model, Labeller)
    assert model.characters is not None
    assert model.characters.characters[2:] == tuple(sorted(set("ThegatesopenOpenthegate")))
    assert model.characters.max_characters == 24
    assert model.recurrent.input_size == 6 + 2 * 5
    assert model.word_dropout == 0.1


def test_a_crf_is_built_trained_and_loaded_as_the_configuration_says(
    config: Config, tmp_path: Path
) -> None:
    config = config.model_copy(update={"model": config.model.model_copy(update={"decoder": "crf"})})
    data = load_data(config)
    model = build_model(config, data)
    assert isinstance(model, Labeller)
    assert model.crf is not None
    job.train(config, model, data)
    assert job.evaluate(config, model, data).metrics["accuracy"] == 1.0
    assert (model.crf.transitions != 0).any()
    loaded = checkpoint.load(checkpoint.save(tmp_path / "model.pt", config, model))
    assert isinstance(loaded.model, Labeller)
    assert loaded.model.crf is not None
    assert torch.equal(loaded.model.crf.transitions, model.crf.transitions)


def test_a_labeller_with_characters_learns_and_comes_back_from_its_checkpoint(
    config: Config, tmp_path: Path
) -> None:
    data = load_data(config)
    model = build_model(config, data)
    job.train(config, model, data)
    evaluation = job.evaluate(config, model, data)
    assert evaluation.metrics["accuracy"] == 1.0
    loaded = checkpoint.load(checkpoint.save(tmp_path / "model.pt", config, model))
    again = job.evaluate(loaded.config, loaded.model, loaded.data)
    assert again.predictions == evaluation.predictions


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_example_recipes_are_valid(path: Path) -> None:
    assert load(path).name == path.stem


SLOTS = {
    "seq.in": "to york now\nfrom rome\nto rome\n",
    "seq.out": "O B-to B-time\nO B-from\nO B-to\n",
    "label": "flight\nfare\nflight\n",
}


@pytest.fixture
def joint(config: Config, tmp_path: Path) -> Config:
    for part in ("train", "valid", "test"):
        (tmp_path / "slots" / part).mkdir(parents=True)
        for name, text in SLOTS.items():
            (tmp_path / "slots" / part / name).write_text(text)
    settings = config.model_dump()
    settings["dataset"] = {"name": "slots", "path": tmp_path / "slots", "min_count": 1}
    settings["model"] |= {"decoder": "crf", "pooling": "attention"}
    return Config.model_validate(settings)


def monitor(model: Labeller, data: SentenceSplit) -> str:
    return LabellingTask(model, data, 100).monitor


def test_slots_and_intents_are_learned_together(joint: Config) -> None:
    data = load_data(joint)
    model = build_model(joint, data)
    assert isinstance(model, Labeller)
    assert isinstance(data, SentenceSplit)
    fitted = job.train(joint, model, data)
    assert fitted.monitor == "validation_exact_match"
    metrics = job.evaluate(joint, model, data).metrics
    assert metrics["exact_match"] == metrics["f1"] == metrics["sentence_accuracy"] == 1.0


def test_the_best_epoch_is_chosen_by_what_the_labels_allow(joint: Config) -> None:
    data = load_data(joint)
    assert isinstance(data, SentenceSplit)
    labels = {
        "words": small_labeller(),
        "spans": joint_labeller(),
        "whole": joint_labeller(words=False),
    }
    assert monitor(labels["words"], data) == "validation_accuracy"
    assert monitor(labels["whole"], data) == "validation_sentence_accuracy"
    assert monitor(labels["spans"], data) == "validation_exact_match"


@pytest.mark.slow
def test_a_joint_run_is_in_mlflow_with_its_tables(
    joint: Config, store_uri: str, tmp_path: Path
) -> None:
    settings = joint.model_dump()
    settings["training"]["epochs"] = 2
    settings["tracking"]["uri"] = store_uri
    result = job.run(Config.model_validate(settings), tmp_path / "out")
    client = mlflow.MlflowClient(store_uri)
    files = {file.path for file in client.list_artifacts(result.run_id)}
    assert files >= {
        "by_label.json",
        "by_sentence_label.json",
        "by_span.json",
        "labels.png",
        "sentence_labels.png",
    }
    pictures = [Path(file.path).name for file in client.list_artifacts(result.run_id, "images")]
    for name in ("validation_labels", "validation_sentence_labels"):
        assert any(picture.startswith(f"{name}+step+1+") for picture in pictures)
    found = client.get_run(result.run_id).data.metrics
    assert found["test_f1"] == result.evaluation.metrics["f1"]
    assert result.spec.metrics["exact_match"] == result.evaluation.metrics["exact_match"]
