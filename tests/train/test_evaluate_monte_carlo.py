"""Scores of the mean prediction of sampled networks, for every task."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.models import crf_labeller, joint_labeller
from tidegate.train import Labeller, LanguageModel, Recurrent, Variational, checkpoint, job
from tidegate.train.__main__ import main
from tidegate.train.build import build_model, load_data
from tidegate.train.config import Config
from tidegate.train.data.buckets import batches
from tidegate.train.data.corpus import Corpus
from tidegate.train.data.sentences import Sentence
from tidegate.train.evaluate.backtest import Backtest
from tidegate.train.evaluate.labelling import encode, predict
from tidegate.train.evaluate.language import TokenLosses
from tidegate.train.inference import monte_carlo, sampled_networks

VARIATIONAL = {"regularizers": [{"name": "variational", "p": 0.4}], "hidden_size": 6}
SAMPLES = 5


def config(folder: Path, task: str, **model: object) -> Config:
    text = "good the tide comes in\nbad the tide goes out\n" * 6
    for part in ("a", "b", "c"):
        (folder / part).write_text(text)
    datasets: dict[str, dict[str, Any]] = {
        "forecasting": {
            "name": "co2",
            "train_until": "1990-01-06",
            "validation_until": "1996-01-06",
        },
        "labelling": {"name": "lines", "path": folder, "files": ["a", "b", "c"], "min_count": 1},
        "language_modelling": {"name": "text", "path": folder, "files": ["a", "b", "c"]},
    }
    settings = {"name": "tide", "task": task, "dataset": datasets[task]}
    return Config.model_validate(settings | {"model": VARIATIONAL | {"num_layers": 1} | model})


@pytest.mark.parametrize("task", ["forecasting", "labelling", "language_modelling"])
def test_the_command_prints_the_scores_of_the_mean(
    task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config(tmp_path, task)
    data = load_data(settings)
    model = build_model(settings, data).eval()
    path = checkpoint.save(tmp_path / "model.pt", settings, model)
    assert main(["evaluate", str(path), "--part", "validation", "--mc-samples", "3"]) == 0
    printed = capsys.readouterr().out
    # The title is as wide as the table, and broken.
    assert "tide: validation part, mean of 3 networks" in " ".join(printed.split())
    for name in job.evaluate(settings, model, data, "validation").metrics:
        assert name in printed


def test_one_sample_and_a_model_without_masks_are_refused(tmp_path: Path) -> None:
    settings = config(tmp_path, "labelling")
    data = load_data(settings)
    model = build_model(settings, data)
    with pytest.raises(ValueError, match="mc_samples=1 has no spread"):
        job.evaluate(settings, model, data, mc_samples=1)
    plain = config(tmp_path, "labelling", regularizers=[])
    with pytest.raises(ValueError, match="nothing to sample"):
        job.evaluate(plain, build_model(plain, data), data, mc_samples=3)


def test_quantiles_are_the_mean_of_those_of_the_networks(tmp_path: Path) -> None:
    settings = config(tmp_path, "forecasting")
    data = load_data(settings)
    model = build_model(settings, data).eval()
    with closing(sampled_networks(model, SAMPLES)) as networks:
        of_each = [
            job.evaluate(settings, model, data, "validation").predictions[0].quantiles
            for _ in networks
        ]
    (found,) = job.evaluate(settings, model, data, "validation", mc_samples=SAMPLES).predictions
    assert isinstance(found, Backtest)
    assert np.array_equal(found.quantiles, np.mean(of_each, axis=0))
    assert not np.array_equal(of_each[0], of_each[1])


def test_a_tokens_probability_is_the_mean_over_the_networks(tmp_path: Path) -> None:
    settings = config(tmp_path, "language_modelling", embedding_std=2.0)
    data = load_data(settings)
    model = build_model(settings, data).eval()
    assert isinstance(model, LanguageModel)
    found = job.evaluate(settings, model, data, mc_samples=SAMPLES).predictions
    assert isinstance(found, TokenLosses)
    assert isinstance(data, Corpus)
    ids = torch.from_numpy(data.test[None])
    mean = monte_carlo(model, ids[:, :-1], mc_samples=SAMPLES).mean[0]
    expected = mean[torch.arange(len(found.tokens)), ids[0, 1:]]
    np.testing.assert_allclose(np.exp(-found.nats), expected.numpy(), rtol=1e-4)


@pytest.mark.parametrize("kind", ["joint", "crf"])
def test_labels_are_the_most_probable_in_the_mean(kind: str) -> None:
    model: Labeller = joint_labeller() if kind == "joint" else crf_labeller(3)
    network = model.recurrent
    model.recurrent = Recurrent(
        network.cell,
        network.input_size,
        network.hidden_size,
        network.num_layers,
        bidirectional=network.bidirectional,
        regularizers=[Variational(0.5)],
    )
    words = ("open", "the", "gate", "close")
    whole = model.sentence_label_names[0] if model.sentence_label_names else ""
    sentences = [
        Sentence(words[: 1 + row % 4], (model.label_names[0],) * (1 + row % 4), whole)
        for row in range(7)
    ]
    answers = predict(model, sentences, mc_samples=SAMPLES)
    ((rows, batch),) = batches(encode(model, sentences), 4096)
    mean = monte_carlo(model, batch.tokens, batch.lengths, batch.chars, mc_samples=SAMPLES).mean
    for place, row in enumerate(rows):
        best = mean[place, : len(sentences[row].words)].argmax(dim=-1)
        assert answers.labels[row] == tuple(model.label_names[label] for label in best)
