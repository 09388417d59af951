"""Whole runs of language models from their configuration."""

from pathlib import Path

import mlflow
import pytest

from tidegate.train import LanguageModel, checkpoint, job
from tidegate.train.build import build_model, load_data
from tidegate.train.config import Config
from tidegate.train.data.corpus import Corpus

TIDE = "the tide comes in\nthe tide goes out\n"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "text").write_text(TIDE * 60)
    return Config.model_validate(
        {
            "name": "tide",
            "task": "language_modelling",
            "dataset": {"name": "text", "path": tmp_path / "text"},
            "model": {
                "cell": "lstm",
                "hidden_size": 16,
                "num_layers": 1,
                "embedding_size": 12,
            },
            "training": {"epochs": 12, "learning_rate": 0.03, "lanes": 4, "bptt": 20},
        }
    )


def changed(config: Config, **sections: dict[str, object]) -> Config:
    settings = config.model_dump()
    for name, values in sections.items():
        settings[name] |= values
    return Config.model_validate(settings)


def test_a_language_model_learns_a_text_and_comes_back_from_its_checkpoint(
    config: Config, tmp_path: Path
) -> None:
    data = load_data(config)
    network = build_model(config, data)
    fitted = job.train(config, network, data)
    assert fitted.monitor == "validation_perplexity"
    evaluation = job.evaluate(config, network, data)
    # Of eight words two can follow "tide" and two "<eos>" is followed by one.
    assert evaluation.metrics["perplexity"] < 1.25
    loaded = checkpoint.load(checkpoint.save(tmp_path / "model.pt", config, network))
    again = job.evaluate(loaded.config, loaded.model, loaded.data)
    assert again.metrics == evaluation.metrics


def test_characters_train_with_the_awd_preset_averaging_and_drawn_lengths(config: Config) -> None:
    awd = changed(
        config,
        model={"preset": "awd", "embedding_size": 16},
        language={
            "unit": "character",
            "variable_bptt": True,
            "activation": 2.0,
            "temporal_activation": 1.0,
        },
        training={
            "epochs": 3,
            "optimizer": "sgd",
            "schedule": "constant",
            "learning_rate": 5.0,
            "average": True,
            "non_monotone_interval": 1,
            "clip": 0.25,
        },
    )
    data = load_data(awd)
    assert isinstance(data, Corpus)
    assert data.unit == "character"
    network = build_model(awd, data)
    assert isinstance(network, LanguageModel)
    assert network.projection is None
    assert [one.name for one in network.recurrent.regularizers] == [
        "weight_drop",
        "zaremba",
        "embedding_dropout",
    ]
    fitted = job.train(awd, network, data)
    perplexities = [one.metrics["validation_perplexity"] for one in fitted.epochs]
    assert perplexities[-1] < perplexities[0] < len(data.vocabulary)
    assert "validation_bits_per_character" in fitted.best.metrics


def test_a_bidirectional_language_model_is_refused_when_the_configuration_is_read(
    config: Config,
) -> None:
    with pytest.raises(ValueError, match="refused for task = 'language_modelling': a network that"):
        changed(config, model={"bidirectional": True})


@pytest.mark.slow
def test_a_run_is_in_mlflow_with_its_tables_and_pictures(
    config: Config, store_uri: str, tmp_path: Path
) -> None:
    short = changed(config, training={"epochs": 2}, tracking={"uri": store_uri})
    result = job.run(short, tmp_path / "out")
    client = mlflow.MlflowClient(store_uri)
    files = {file.path for file in client.list_artifacts(result.run_id)}
    assert files >= {"by_token.json", "by_frequency.json", "by_frequency.png", "images"}
    found = client.get_run(result.run_id).data.metrics
    assert found["test_perplexity"] == result.evaluation.metrics["perplexity"]
    assert result.spec.metrics["perplexity"] == result.evaluation.metrics["perplexity"]
